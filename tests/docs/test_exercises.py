"""Exercises: every solution passes, every gap and every typical wrong answer fails with a sentence that helps."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from refcl.__main__ import main
from refcl.oracle import exercise_command
from refcl.oracle.exercises import exercise, exercises, judge
from refcl.oracle.exercises.judges import JUDGES

ROOT = Path(__file__).resolve().parents[2]
ALL = exercises()


def defined(code):
    module = types.ModuleType("answer")
    exec(code, module.__dict__)
    return module.__dict__


def identify(one):
    return f"{one.number}-{one.key}"


def test_there_are_enough_and_in_order():
    assert len(ALL) >= 24
    assert [one.number for one in ALL] == list(range(1, len(ALL) + 1))
    assert {one.key for one in ALL} == set(JUDGES)


@pytest.mark.parametrize("one", ALL, ids=identify)
def test_every_exercise_is_whole(one):
    assert one.title
    assert one.question
    assert (ROOT / "docs" / f"{one.read}.md").exists()
    assert len(one.hints) >= 2
    assert len(one.reasoning) > 40
    assert len(one.wrong) >= 2
    assert len({wrong.says for wrong in one.wrong}) == len(one.wrong)
    assert JUDGES[one.key].name in one.gap


@pytest.mark.parametrize("one", ALL, ids=identify)
def test_every_solution_passes(one):
    found = judge(one, defined(one.solution))
    assert found.right, found.text


@pytest.mark.parametrize("one", ALL, ids=identify)
def test_every_gap_fails(one):
    found = judge(one, defined(one.gap))
    assert not found.right
    assert "gap is still to be filled" in found.text or "still empty" in found.text or "still wrong" in found.text


@pytest.mark.parametrize(
    ("one", "k"), [pytest.param(one, k, id=f"{identify(one)}-{k}") for one in ALL for k in range(len(one.wrong))]
)
def test_every_wrong_answer_fails_with_its_sentence(one, k):
    found = judge(one, defined(one.wrong[k].code))
    assert not found.right
    assert found.text.startswith(one.wrong[k].says)


# Wrong answers that stand in no file: what is said comes from what was measured.
MEAN = exercise("mean")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def mean_backward(dvalue, losses):\n    return -dvalue + 0 * losses", "times −N"),
        ("def mean_backward(dvalue, losses):\n    return -dvalue / losses.size + 0 * losses", "wrong sign"),
        ("def mean_backward(dvalue, losses):\n    return dvalue / losses.size", "has shape ()"),
        (
            "def mean_backward(dvalue, losses):\n    return 3 * dvalue / losses.size + 0 * losses",
            "3 times the right one",
        ),
        ("def mean_backward(dvalue, losses):\n    return losses * float('nan')", "not finite"),
        ("def mean_backward(dvalue, losses):\n    return 0 * losses", "zero everywhere"),
        (
            "def mean_backward(dvalue, losses):\n    losses[:] = dvalue / losses.size\n    return losses",
            "writes into its inputs",
        ),
        ("def mean_backward(dvalue, losses):\n    return 1 / 0", "raised ZeroDivisionError"),
        ("def mean_backward(dvalue, losses):\n    return losses, losses", "got 2 things"),
        ("def mean_backward(dvalue, losses):\n    return 'nothing'", "is to be numbers"),
        ("def mean_backward(dvalue):\n    return dvalue", "raised TypeError"),
        (
            "def mean_backward(dvalue, losses):\n    g = 0 * losses + dvalue / losses.size\n"
            "    g[0] *= 1 + 1e-6\n    return g",
            "1 of 5 entries are wrong",
        ),
    ],
)
def test_other_wrong_answers_are_described(code, says):
    found = judge(MEAN, defined(code))
    assert not found.right
    assert says in found.text


def test_an_answer_that_is_transposed_is_named():
    code = "import numpy as np\ndef cosines(q, k):\n    z = q / np.linalg.norm(q, axis=1, keepdims=True)\n"
    code += "    c = k / np.linalg.norm(k, axis=1, keepdims=True)\n    return c @ z.T"
    assert "Transposed, it would fit" in judge(exercise("cosine"), defined(code)).text


def test_the_oracle_s_report_is_shown_where_no_sentence_is_known():
    code = exercise("softmax-value").solution.replace(".mean()", ".mean() * 3")
    found = judge(exercise("softmax-value"), defined(code))
    assert not found.right
    assert found.text.startswith("The oracle's verdict: ")


def test_words_and_numbers():
    assert judge(exercise("which-temperature"), {"answer": 0.203}).right
    assert not judge(exercise("which-temperature"), {"answer": "0.2"}).right
    assert "hint" in judge(exercise("which-temperature"), {"answer": 0.7}).text
    assert judge(exercise("stuck"), {"answer": " Collapsed "}).right


class TestTheCommand:
    def run(self, capsys, *words):
        status = main(["exercise", *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    def judged_here(self, module, words, timeout):
        assert module == "refcl.oracle.exercise_command"
        return json.loads(json.dumps(exercise_command._judge(words[0], Path(words[1]))))

    def test_it_lists(self, capsys):
        status, out, _ = self.run(capsys)
        assert status == 0
        listed, _, then = out.partition("\n\n")
        assert len(listed.splitlines()) == len(ALL)
        assert "refcl exercise 1 > mine.py" in then
        status, out, _ = self.run(capsys, "--json")
        assert [e["key"] for e in json.loads(out)] == [one.key for one in ALL]

    @pytest.mark.parametrize("one", ALL, ids=identify)
    def test_what_it_prints_is_a_file_with_the_gap(self, capsys, one):
        status, out, _ = self.run(capsys, one.number)
        assert status == 0
        assert max(map(len, out.splitlines())) <= 120
        assert not judge(one, defined(out)).right

    def test_hints_come_in_steps(self, capsys):
        one = exercise(10)
        _, first, _ = self.run(capsys, 10, "--hint", 1)
        _, both, _ = self.run(capsys, 10, "--hint", 2)
        assert both.startswith(first)
        assert one.hints[1] in both
        assert one.hints[1] not in first
        assert self.run(capsys, 10, "--hint", 9)[0] == 2

    def test_a_solution_is_a_file_that_passes(self, capsys):
        _, out, _ = self.run(capsys, "nt-xent-backward", "--solution")
        assert judge(exercise("nt-xent-backward"), defined(out)).right

    @pytest.mark.parametrize(
        ("text", "status", "says"),
        [
            (MEAN.solution, 0, "right"),
            (f"print('noise')\n{MEAN.solution}", 0, "right"),
            (MEAN.wrong[0].code, 1, "not yet. That is the gradient of a sum"),
            (MEAN.gap, 1, "still to be filled"),
            ("def mean_backward(:", 2, "line 1"),
            ("x = 1", 2, "defines no mean_backward"),
            ("mean_backward = 3", 2, "not a function"),
            ("1 / 0", 2, "ZeroDivisionError"),
            ("import os\nos._exit(0)", 2, "ended its process"),
        ],
    )
    def test_status(self, capsys, monkeypatch, tmp_path, text, status, says):
        file = tmp_path / "mine.py"
        file.write_text(text, encoding="utf-8")
        if "noise" not in text and "_exit" not in text:  # a process of its own is for these
            monkeypatch.setattr(exercise_command, "answer_of", self.judged_here)
        found, out, err = self.run(capsys, 1, "--check", file)
        assert found == status
        assert says in (out if status < 2 else err)
        assert "noise" not in out

    def test_a_file_that_does_not_end_is_cut_off(self, capsys, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text("while True:\n    pass\n", encoding="utf-8")
        status, _, err = self.run(capsys, 1, "--check", file, "--timeout", 2)
        assert status == 2
        assert "cut off" in err

    def test_results_for_a_teacher_are_json(self, capsys, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(MEAN.wrong[1].code, encoding="utf-8")
        status, out, _ = self.run(capsys, "mean", "--check", file, "--json")
        answer = json.loads(out)
        assert status == 1
        assert answer == {
            "exercise": 1,
            "key": "mean",
            "file": str(file),
            "result": "wrong",
            "text": MEAN.wrong[1].says,
        }

    def test_what_is_not_there(self, capsys, tmp_path):
        assert self.run(capsys, 99)[0] == 2
        assert "there are 1 to" in self.run(capsys, "nobody")[2]
        assert "there is no file" in self.run(capsys, 1, "--check", tmp_path / "none.py")[2]
        assert "say which" in self.run(capsys, "--solution")[2]
        assert self.run(capsys, 1, "--check", tmp_path, "--timeout", 0)[0] == 2

    def test_the_word_works_in_a_shell(self):
        done = subprocess.run([sys.executable, "-m", "refcl", "exercise"], capture_output=True, text=True, check=True)
        assert "NT-Xent" in done.stdout
