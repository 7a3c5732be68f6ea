"""Test vectors: as the schema says, regenerated bit for bit, right against refcl; answers judged, in C too."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import refcl.oracle.vectors
from refcl.oracle.question import ask
from refcl.oracle.vectors import FILES, copy_vectors, load_vectors
from refcl.oracle.verify import judge_answers, verify

HERE = Path(refcl.oracle.vectors.__file__).parent
VECTORS = load_vectors()
EXAMPLE = Path(__file__).parents[1] / "examples" / "check_in_c.c"


def cases() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(group, test) for group in VECTORS["testGroups"] for test in group["tests"]]


def test_the_file_is_as_its_schema_says() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="validates against the JSON Schema")
    schema = json.loads((HERE / "contrastive.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(VECTORS)
    answered = VECTORS | {"answers": [{"tcId": 1, "value": "NaN", "gradients": {"s": [[None]]}}]}
    validator.validate(answered)
    for broken in (VECTORS | {"numberOfTests": 0}, VECTORS | {"answers": [{"value": 1.0}]}, {"testGroups": []}):
        assert not validator.is_valid(broken)


def test_the_file_holds_together() -> None:
    ids = [test["tcId"] for _, test in cases()]
    assert ids == list(range(1, VECTORS["numberOfTests"] + 1))
    flags = {flag for _, test in cases() for flag in test["flags"]}
    assert flags == set(VECTORS["notes"])
    assert len(flags) >= 25
    assert sum((HERE / name).stat().st_size for name in FILES if name.endswith(".json")) < 2_000_000


@pytest.mark.slow
def test_the_files_are_regenerated_bit_for_bit() -> None:
    pytest.importorskip("mpmath", reason="50 digits are mpmath's")
    from vectors.generate import generate, to_json

    vectors = generate()
    assert to_json(vectors).encode() == (HERE / "contrastive.json").read_bytes()


@pytest.mark.parametrize("number", [1, 12, 60, 100])
def test_one_case_is_recomputed(number: int) -> None:
    from vectors.exact import answer

    group, test = next((g, t) for g, t in cases() if t["tcId"] == number)
    value, gradients = answer(group["loss"], group["settings"], test["inputs"])
    assert value == test["value"]
    assert gradients == test["gradients"]


@pytest.mark.parametrize("group", VECTORS["testGroups"], ids=lambda g: f"{g['loss']}-{g['settings']['reduction']}")
def test_refcl_agrees_well_within_the_tolerance(group: dict[str, Any]) -> None:
    question = ask(group["loss"], **group["settings"])
    for test in group["tests"]:
        inputs = test["inputs"]
        upstream = np.array(inputs["upstream"]) if "upstream" in inputs else None
        scalar = inputs.get(question.scalar) if question.scalar else None
        got = question.expected(tuple(np.array(inputs[n]) for n in question.inputs), scalar, upstream)
        tolerance = test["tolerance"]
        assert np.max(np.abs(got.value - np.array(test["value"]))) <= 0.2 * tolerance["value"]
        for name, gradient in zip(question.inputs, got.grads, strict=True):
            allowed = 0.2 * np.array(tolerance["gradients"][name])[:, None]
            assert np.all(np.abs(gradient - np.array(test["gradients"][name])) <= allowed)
        if question.scalar in test["gradients"]:
            error = abs((got.dscalar or 0.0) - test["gradients"][question.scalar])
            assert error <= 0.2 * tolerance["gradients"][question.scalar]


def test_the_npz_holds_the_same_numbers(tmp_path: Path) -> None:
    copy_vectors(tmp_path)
    with np.load(tmp_path / "contrastive.npz", allow_pickle=False) as arrays:
        for _, test in cases():
            key = f"{test['tcId']:03d}"
            assert np.array_equal(arrays[f"{key}/value"], np.array(test["value"]))
            for name, gradient in test["gradients"].items():
                assert np.array_equal(arrays[f"{key}/gradients/{name}"], np.array(gradient))
                assert arrays[f"{key}/gradients/{name}"].dtype == np.float64


def test_flags_tell_the_truth() -> None:
    """A mistake that a case is flagged with is noticed on it, and no other of the bank's."""
    from refcl.oracle.candidate import Outcome
    from refcl.oracle.compare import agrees
    from refcl.oracle.mistakes import variations

    group, test = next((g, t) for g, t in cases() if g["loss"] == "nt_xent" and t["comment"] == "dominated")
    question = ask(group["loss"], **group["settings"])
    inputs = tuple(np.array(test["inputs"][n]) for n in question.inputs)
    right = question.expected(inputs, test["inputs"]["temperature"])
    noticed = set()
    for variation, recipe in variations(question.recipe):
        other = question.evaluate(recipe, inputs, test["inputs"]["temperature"])
        if not agrees(right, Outcome(other.value, other.grads, other.dscalar, 2.0**-52)):
            noticed.add(variation.id)
    assert noticed <= set(test["flags"])


def test_copies_are_whole(tmp_path: Path) -> None:
    written = copy_vectors(tmp_path / "new" / "folder")
    assert [path.name for path in written] == list(FILES)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == sorted(FILES)
    assert all(path.read_bytes() == (HERE / path.name).read_bytes() for path in written if path.suffix == ".json")


def filled(tmp_path: Path, change: Any = lambda answer: answer, only: Any = lambda group: True, **top: Any) -> Path:
    answers = [
        change({"tcId": test["tcId"], "value": test["value"], "gradients": dict(test["gradients"])})
        for group, test in cases()
        if only(group)
    ]
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"answers": answers, **top}), encoding="utf-8")
    return path


def test_the_right_answers_are_right(tmp_path: Path) -> None:
    reports = verify(filled(tmp_path))
    assert len(reports) == len(VECTORS["testGroups"])
    assert all(report.ok for report in reports), "\n".join(map(str, reports))


def test_answers_in_single_precision_are_held_to_it(tmp_path: Path) -> None:
    def narrow(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"value": np.asarray(answer["value"], dtype=np.float32).tolist(), "gradients": {}}

    def only(group: dict[str, Any]) -> bool:
        return bool(group["loss"] == "info_nce")

    assert all(report.ok for report in verify(filled(tmp_path, narrow, only, precision="float32")))
    for report in verify(filled(tmp_path, narrow, only)):
        assert any("single precision inside" in note for note in report.notes), "what is off by less than 1e-6 is said"


def doubled(x: Any) -> Any:
    return [doubled(y) for y in x] if isinstance(x, list) else 2 * x


def test_mistakes_are_named_from_answers_alone(tmp_path: Path) -> None:
    def wrong(answer: dict[str, Any]) -> dict[str, Any]:
        gradients = {name: doubled(g) for name, g in answer["gradients"].items()}
        return answer | {"value": doubled(answer["value"]), "gradients": gradients}

    reports = verify(filled(tmp_path, wrong, lambda group: group["loss"] in ("nt_xent", "clip", "softmax_contrastive")))
    assert {report.verdict for report in reports} == {"scaled-by-constant"}


def test_gradients_may_be_left_out(tmp_path: Path) -> None:
    reports = verify(filled(tmp_path, lambda answer: {"tcId": answer["tcId"], "value": answer["value"]}))
    assert all(report.ok and not report.gradient_judged for report in reports)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "not judged"), (9.0, "scaled-by-constant")])
def test_gradients_of_some_tests_only_are_judged_and_not_called_correct(
    factor: float, verdict: str, tmp_path: Path
) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        if answer["tcId"] == 1:
            return answer | {"gradients": {}}
        grown = (factor * np.array(answer["gradients"]["s"])).tolist()
        return answer | {"gradients": {"s": grown}}

    (report,) = verify(filled(tmp_path, change, lambda group: group is VECTORS["testGroups"][0]))
    assert report.verdict == verdict
    assert not report.gradient_judged
    assert "none were returned" not in str(report)
    assert 'Gradients were returned on 11 of 12 batches, not on "ordinary (test 1)".' in str(report)


def test_gradients_of_some_arrays_only_are_refused(tmp_path: Path) -> None:
    def change(answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"gradients": {"query": answer["gradients"]["query"]}}

    reports = verify(filled(tmp_path, change, lambda group: group["loss"] == "info_nce"))
    assert {report.verdict for report in reports} == {"not judged"}
    assert all("the gradient of key is missing; give those of all arrays, or of none." in r.reason for r in reports)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"answers": [{"tcId": 1, "value": ' + "9" * 5000 + "}]}", "Exceeds the limit"),
        ("null", "the file must be object; got null"),
        ("[]", r"the file must be object; got \[\]"),
        ('{"answers": []}', "answers must contain at least 1 items"),
        ('{"answers": [{"value": 1}]}', r"answers\[0\] must contain \['tcId'\] properties"),
        ('{"answers": [{"tcId": true, "value": 1}]}', r"answers\[0\].tcId must be integer; got true"),
        ('{"answers": [{"tcId": 1, "value": 1, "value": 2}]}', "'value' stands twice in one object"),
        ('{"answers": [{"tcId": 1, "value": 1, "gradients": 5}]}', r"answers\[0\].gradients must be object; got 5"),
        ('{"answers": [{"tcId": 1, "value": "one"}]}', r'answers\[0\].value must be numbers, .*; got "one"'),
        ('{"answers": [{"tcId": 1, "value": [[1], {}]}]}', r"answers\[0\].value must be numbers"),
        ('{"answers": [{"tcId": 9999, "value": 1}]}', "there is no test with tcId 9999"),
        ('{"answers": [{"tcId": 1, "value": 1}, {"tcId": 1, "value": 1}]}', "tcId 1 is answered twice"),
        ('{"answers": [{"tcId": 1, "value": 1}], "precision": "half"}', "precision must be one of"),
        ('{"answers": [{"tcId": 1, "value": 1}], "precision": [1]}', r"precision must be one of .*; got \[1\]"),
    ],
    ids=range(16),
)
def test_a_file_that_is_no_answer_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        verify(path)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"tcId": 1, "value": [1.0, 2.0]}, "tcId 1: value has shape (2,); expected ()."),
        ({"tcId": 1, "value": [[1.0], [1.0, 2.0]]}, "tcId 1: value is not made of numbers."),
        ({"tcId": 1, "value": 10**400}, "tcId 1: value is not made of numbers that fit into float64."),
        ({"tcId": 1, "value": 1.0, "gradients": {"x": 1.0}}, "tcId 1: there is no gradient of 'x'."),
    ],
)
def test_an_answer_that_cannot_be_judged_gets_a_sentence(answer: Any, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"answers": [answer]}), encoding="utf-8")
    (report,) = verify(path)
    assert report.verdict == "not judged"
    assert sentence in report.reason


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = filled(tmp_path, only=lambda group: group is VECTORS["testGroups"][0])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert verify(path)[0].ok


def test_what_is_not_answered_is_counted(tmp_path: Path) -> None:
    total = VECTORS["numberOfTests"]
    assert judge_answers(filled(tmp_path)).missing == ""
    some = filled(tmp_path, only=lambda group: group is VECTORS["testGroups"][0])
    assert judge_answers(some).missing == f"{total - 12} of {total} tests are not answered"
    bare = filled(tmp_path, lambda answer: {"tcId": answer["tcId"], "value": answer["value"]})
    assert judge_answers(bare).missing == f"{total} answers lack gradients"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(("flags", "verdict"), [([], "correct"), (["-DFORGET_TEMPERATURE"], "temperature-missing")])
def test_the_example_in_c(flags: list[str], verdict: str, tmp_path: Path) -> None:
    copy_vectors(tmp_path)
    program = tmp_path / "check_in_c"
    compile_it = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", *flags, "-o", str(program)]
    subprocess.run([*compile_it, str(EXAMPLE), "-lm"], check=True)
    done = subprocess.run(
        [program, tmp_path / "contrastive.json", tmp_path / "answers.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if verdict == "correct" else 1)
    (report,) = verify(tmp_path / "answers.json")
    # Its gradient of the temperature is that of a temperature which it does not use: a second mistake.
    assert report.verdict.split(" + ")[0] == verdict, str(report)
    assert report.scalar_judged
    counted = "12 of 12 cases agree" if verdict == "correct" else "0 of 12 cases agree"
    assert done.stdout.splitlines()[-1] == counted


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_example_in_c_says_what_it_cannot_read(tmp_path: Path) -> None:
    program, text = tmp_path / "check_in_c", tmp_path / "broken.json"
    subprocess.run(["cc", "-std=c99", "-o", str(program), str(EXAMPLE), "-lm"], check=True)
    text.write_text('{"testGroups": [', encoding="utf-8")
    for words, sentence in (([text], "not JSON"), ([tmp_path / "none"], "can't be opened"), ([], "usage")):
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert sentence in done.stderr


@pytest.mark.parametrize("value", [None, "NaN"])
def test_nan_where_a_number_exists_is_wrong(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"answers": [{"tcId": 1, "value": value}]}), encoding="utf-8")
    (report,) = verify(path)
    assert report.verdict == "differs"
    assert "NaN" in str(report)
