#!/usr/bin/env bash
# The suite on the oldest versions that refcl promises, and on the newest that the registry gives:
#
#     bash tests/robust/versions.sh [oldest|newest|both] [pytest's words, such as tests/core]
#
# Each Python that is installed under a name python3.N, N from 11, is taken for "newest" in its highest N.
set -euo pipefail
cd "$(dirname "$0")/../.."
which=${1:-both}
shift || true
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
pythons=$(for n in 11 12 13 14 15; do command -v "python3.$n" > /dev/null && echo "python3.$n"; done || true)
oldest=$(head -n 1 <<< "${pythons:-python3}")
newest=$(tail -n 1 <<< "${pythons:-python3}")
run() { # name, interpreter, packages
    "$2" -m venv "$home/$1"
    "$home/$1/bin/python" -m pip install --quiet ".[test]" "${@:3}"
    "$home/$1/bin/python" -c "
import sys, numpy, scipy
print('$1: Python', sys.version.split()[0], 'NumPy', numpy.__version__, 'SciPy', scipy.__version__)"
    "$home/$1/bin/python" -m pytest -q -p no:cacheprovider "${words[@]}"
}
words=("$@")
[[ $which == newest ]] || run oldest "$oldest" numpy==2.0.0 scipy==1.13.0 "matplotlib==3.8.*" threadpoolctl==3.1.0
[[ $which == oldest ]] || run newest "$newest" --upgrade numpy scipy matplotlib
