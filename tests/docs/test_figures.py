"""The figures in a browser, opened from the disk: dragged, slid, keyed, touched, reloaded."""

import json
import subprocess
from pathlib import Path

import pytest
from docs_places import ROOT, browser, node

from refcl.experiment.report.explorable import explorable
from refcl.experiment.report.page import _page

DRIVE = Path(__file__).with_name("drive.js")
FIGURES = ["knob", "dilemma", "walk", "mistake", "study"]


def drive(url, act, *, width=1280, mode="light", touch=False):
    """Do ``act``, a JavaScript function of the page, and return what it returns; nothing else may have happened."""
    asked = {"browser": browser(), "url": url, "act": act, "width": width, "mode": mode, "touch": touch}
    done = subprocess.run([node(), DRIVE], input=json.dumps(asked), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    came = json.loads(done.stdout)
    assert came["elsewhere"] == []
    assert came["complaints"] == []
    return came["answer"]


def of(site, name):
    return (site / "figures" / f"{name}.html").as_uri()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fills_itself_and_fits(site, name):
    act = """async (page) => {
      const found = [];
      for (const width of [390, 1280]) for (const colorScheme of ["light", "dark"]) {
        await page.setViewportSize({ width, height: 900 });
        await page.emulateMedia({ colorScheme });
        await page.reload();
        found.push(await page.evaluate(() => {
          const box = document.querySelector(".touch"), style = getComputedStyle(box);
          return { ready: "ready" in box.dataset, wide: document.documentElement.scrollWidth - innerWidth,
                   drawn: box.querySelectorAll("svg, table").length, nan: box.textContent.includes("NaN"),
                   colours: [style.color, style.backgroundColor] };
        }));
      }
      return found;
    }"""
    found = drive(of(site, name), act)
    for one in found:
        assert one["ready"]
        assert one["drawn"] > 0
        assert not one["nan"]
        assert one["wide"] <= 0
    assert found[0]["colours"] != found[1]["colours"]  # dark is another one


SUMMARY = 'const said = () => page.textContent(".touch .summary");'


def test_knob_is_dragged(site):
    """The marks of what changed fade within a second: they are counted as they are made."""
    act = f"""async (page) => {{ {SUMMARY}
      await page.evaluate(() => {{
        window.marked = 0;
        const count = (changes) => (window.marked += changes.filter((c) => c.target.dataset.moved).length);
        new MutationObserver(count).observe(document.body, {{ subtree: true, attributeFilter: ["data-moved"] }});
      }});
      const before = await said();
      const point = page.getByRole("slider", {{ name: "negative 5" }});
      const anchor = await page.getByRole("slider", {{ name: "anchor" }}).boundingBox();
      const from = await point.boundingBox();
      await page.mouse.move(from.x + from.width / 2, from.y + from.height / 2);
      await page.mouse.down();
      await page.mouse.move(anchor.x + anchor.width / 2, anchor.y + anchor.height / 2, {{ steps: 8 }});
      await page.mouse.up();
      const value = await point.getAttribute("aria-valuetext"), marked = await page.evaluate(() => window.marked);
      return [before, await said(), value, marked];
    }}"""
    before, after, value, marked = drive(of(site, "knob"), act)
    assert "negative 5" not in before
    assert "negative 5 (similarity 1.00)" in after
    assert value == "similarity to the anchor 1.00"
    assert marked > 0  # what changed is marked


def test_knob_is_touched(site):
    act = f"""async (page) => {{ {SUMMARY}
      const point = page.getByRole("slider", {{ name: "negative 5" }});
      await page.locator(".touch .summary").scrollIntoViewIfNeeded();
      await point.scrollIntoViewIfNeeded();
      const box = await point.boundingBox();
      const other = await page.getByRole("slider", {{ name: "anchor" }}).boundingBox();
      const client = await page.context().newCDPSession(page);
      const at = (b) => [{{ x: b.x + b.width / 2, y: b.y + b.height / 2 }}];
      const middle = [{{ x: (at(box)[0].x + at(other)[0].x) / 2, y: (at(box)[0].y + at(other)[0].y) / 2 + 4 }}];
      await client.send("Input.dispatchTouchEvent", {{ type: "touchStart", touchPoints: at(box) }});
      await client.send("Input.dispatchTouchEvent", {{ type: "touchMove", touchPoints: middle }});
      await client.send("Input.dispatchTouchEvent", {{ type: "touchMove", touchPoints: at(other) }});
      await client.send("Input.dispatchTouchEvent", {{ type: "touchEnd", touchPoints: [] }});
      return said();
    }}"""
    assert "negative 5 (similarity 1.00)" in drive(of(site, "knob"), act, width=390, touch=True)


def test_knob_by_keys_and_its_ends(site):
    act = f"""async (page) => {{ {SUMMARY}
      const point = page.getByRole("slider", {{ name: "positive" }});
      await point.focus();
      const from = await point.getAttribute("aria-valuenow");
      for (let i = 0; i < 10; i++) await page.keyboard.press("ArrowLeft");
      const to = await point.getAttribute("aria-valuenow");
      const tau = page.getByRole("slider", {{ name: "temperature" }});
      await tau.focus();
      await page.keyboard.press("Home");
      const low = [await said(), await page.textContent(".panel dt")];
      await page.keyboard.press("End");
      const high = [await said(), await page.textContent(".panel dt")];
      const drawn = page.locator(".panel").first().locator(".share");
      const bars = await drawn.evaluateAll((all) => all.map((b) => +b.getAttribute("height")));
      return {{ from, to, low, high, bars }};
    }}"""
    found = drive(of(site, "knob"), act)
    assert float(found["to"]) > float(found["from"])  # left turns it against the clock, towards the anchor
    assert "τ → 0⁺" in found["low"][0]
    assert "100 %" in found["low"][0]
    assert found["low"][1] == "τ·loss"
    assert "τ → ∞" in found["high"][0]
    assert found["bars"] == pytest.approx([68 / 6] * 6)


def test_knob_on_a_sphere_turns_a_point_over(site):
    act = """async (page) => {
      await page.getByRole("radio", { name: "sphere" }).check();
      const point = page.getByRole("slider", { name: "negative 3" });
      await point.focus();
      for (let i = 0; i < 12; i++) await page.keyboard.press("ArrowLeft");
      const front = +(await point.getAttribute("aria-valuenow")), seen = await point.getAttribute("class");
      await page.keyboard.press("f");
      return [seen, await point.getAttribute("class"), front];
    }"""
    front, back, _ = drive(of(site, "knob"), act)
    assert "behind" not in front
    assert "behind" in back


@pytest.mark.parametrize("name", FIGURES)
def test_the_address_holds_the_state(site, name):
    moves = {
        "knob": 'await page.getByRole("slider", { name: "temperature" }).fill("80");',
        "dilemma": 'await page.getByRole("slider", { name: "temperature" }).fill("90");',
        "walk": 'await page.getByRole("spinbutton").first().fill("2.5");',
        "mistake": 'await page.getByRole("button", { name: "next →" }).click();',
        "study": 'await page.getByRole("checkbox").first().uncheck();',
    }
    state = {
        "knob": '() => document.querySelector("output").textContent',
        "dilemma": '() => document.querySelector("output").textContent',
        "walk": '() => document.querySelector(".touch input[type=number]").value',
        "mistake": '() => document.querySelector(".touch pre").textContent',
        "study": "() => document.querySelectorAll('.touch .run').length",
    }
    act = f"""async (page) => {{
      const state = () => page.evaluate({state[name]}), first = await state();
      {moves[name]}
      await page.waitForTimeout(400);
      const moved = await state(), address = page.url();
      await page.reload();
      await page.waitForSelector("[data-ready]");
      return {{ first, moved, reloaded: await state(), address }};
    }}"""
    found = drive(of(site, name), act)
    assert found["moved"] != found["first"]
    assert found["reloaded"] == found["moved"]
    assert f"#{name}=" in found["address"]


@pytest.mark.parametrize(
    "words", ["#knob=NaN,9,x", "#knob=", "#knob=1e999,-3,1,9,9,9", "#other=1", "#knob=%F0%9F%98%80"]
)
def test_an_address_of_anything_does_no_harm(site, words):
    act = """async (page) => page.evaluate(() => document.querySelector(".touch").textContent.includes("NaN"))"""
    assert drive(of(site, "knob") + words, act) is False


def test_dilemma_tears_apart_or_collapses(site):
    act = """async (page) => {
      const slider = page.getByRole("slider", { name: "temperature" }), found = [];
      const button = page.getByRole("button", { name: /pause|go/ });
      for (const position of ["20", "90"]) {
        await slider.fill(position);
        await page.getByRole("button", { name: "start again" }).click();
        const measured = () => JSON.parse(document.querySelector(".touch").dataset.measured);
        await page.waitForFunction(`(${measured})().steps >= 250`, null, { timeout: 60000 });
        found.push(await page.evaluate(measured));
      }
      return found;
    }"""
    cold, warm = drive(of(site, "dilemma"), act)
    assert warm["tolerance"] > 0.97
    assert cold["tolerance"] < 0.9
    assert cold["uniformity"] > warm["uniformity"] + 0.1
    assert cold["angle"] > 2 * warm["angle"]


def test_dilemma_waits_where_less_motion_is_asked_for(site):
    act = """async (page) => {
      const steps = () => page.evaluate(() => JSON.parse(document.querySelector(".touch").dataset.measured).steps);
      const first = await steps();
      await page.waitForTimeout(300);
      return [first, await steps(), await page.getByRole("button").first().textContent()];
    }"""
    first, later, _ = drive(of(site, "dilemma"), act)
    assert first == later == 0


def test_walk_explains_a_number_and_follows_a_change(site):
    act = """async (page) => {
      const cell = page.getByRole("button", { name: "ds⁻, row 0, column 1" });
      await cell.click();
      const shown = await page.textContent(".explained"), line = await page.textContent(".explained mark");
      const before = await cell.textContent();
      await page.getByRole("spinbutton", { name: "x, row 0, column 0" }).fill("-1");
      const math = await page.locator(".explained math").count();
      const sums = await page.evaluate(() => [...document.querySelectorAll(".room")].length);
      return { shown, line, before, after: await cell.textContent(), math, sums };
    }"""
    found = drive(of(site, "walk"), act)
    assert "soft_maximum_backward" in found["shown"]
    assert "relative" in found["line"]
    assert found["before"] != found["after"]
    assert found["math"] == 1
    assert found["sums"] == 8  # what comes in, and seven rooms


def test_walk_shows_the_numbers_of_refcl(site):
    import numpy as np

    import refcl

    act = """async (page) => page.evaluate(() => Object.fromEntries(
      [...document.querySelectorAll(".touch .array")].map((box) => [
        box.querySelector(".name").textContent,
        [...box.querySelectorAll("button span")].map((cell) => +cell.textContent),
      ])))"""
    shown = drive(of(site, "walk"), act)
    x = np.array([[1.0, 0.2], [-0.3, 0.9], [0.4, -0.8]])
    weight, bias = np.array([[0.9, -0.4], [0.3, 1.1]]), np.array([0.1, -0.2])
    h, cache = refcl.walk.layers.linear.forward(x, weight, bias)
    value, grads = refcl.info_nce(h, np.array([[0.9, 0.1], [0.2, 1.0], [0.7, -0.6]]), 0.2)
    dx, dweight, dbias = refcl.walk.layers.linear.backward(grads.dquery, cache)
    expected = {"L": value, "dh": grads.dquery, "dτ": grads.dtemperature, "dx": dx, "dW": dweight, "db": dbias, "h": h}
    for name, numbers in expected.items():
        np.testing.assert_allclose(shown[name], np.ravel(numbers), atol=6e-4, err_msg=name)


def test_mistake_is_judged_in_the_oracle_s_words(site):
    act = """async (page) => {
      const said = [];
      for (let k = 0; k < 6; k++) {
        const answers = page.locator(".answers button"), tried = [];
        for (let i = 0; i < await answers.count(); i++) {
          await answers.nth(i).click();
          tried.push(await answers.nth(i).getAttribute("data-right"));
        }
        said.push([tried, await page.locator("details pre").textContent()]);
        await page.getByRole("button", { name: "next →" }).click();
      }
      return said;
    }"""
    verdicts = []
    for tried, report in drive(of(site, "mistake"), act):
        assert sorted(tried) == ["false", "false", "true"]
        verdicts.append(report.splitlines()[0].rpartition(": ")[2])
    assert "temperature-missing-on-positive" in verdicts[0]
    assert len(set(verdicts)) == 6


def test_study_tells_a_run_s_record_and_filters(site):
    act = """async (page) => {
      const runs = page.locator(".run"), all = await runs.count();
      await runs.first().focus();
      const record = await page.textContent(".summary");
      await page.getByRole("radio", { name: "temperature" }).first().check();
      const tempered = await runs.count();
      await page.getByRole("checkbox", { name: "info_nce", exact: true }).uncheck();
      return { all, record, tempered, fewer: await runs.count() };
    }"""
    found = drive(of(site, "study"), act)
    assert "few label accuracy" in found["record"]
    assert found["all"] > found["tempered"] > found["fewer"] > 0


def test_the_study_s_report_has_the_figure_and_lets_no_other_script_run(tmp_path):
    records = json.loads((ROOT / "docs" / "data" / "results.json").read_text(encoding="utf-8"))
    other = "<script>document.title = 'another script ran'</script>"
    (tmp_path / "report.html").write_text(_page(explorable(records)), encoding="utf-8")
    (tmp_path / "other.html").write_text(_page(explorable(records) + other), encoding="utf-8")
    act = """async (page) => {
      await page.locator(".run").last().hover();  // drawn last, it lies above those beside it
      const runs = page.locator(".run"), all = await runs.count(), record = await page.textContent(".summary");
      await page.getByRole("checkbox", { name: "info_nce", exact: true }).uncheck();
      await page.waitForTimeout(400);
      const fewer = await runs.count();
      await page.reload();
      return { all, record, fewer, kept: await runs.count(), title: await page.title() };
    }"""
    found = drive((tmp_path / "report.html").as_uri(), act)
    assert found["all"] == len(records) > found["fewer"] == found["kept"] > 0
    assert "seed 2; uniformity" in found["record"]
    url, title = (tmp_path / "other.html").as_uri(), "async (page) => page.title()"
    with pytest.raises(AssertionError, match="Content Security Policy"):  # the browser complains
        drive(url, title)


def test_home_page_has_the_knob(site):
    act = 'async (page) => page.getByRole("slider").count()'
    assert drive((site / "index.html").as_uri(), act) == 9  # eight points and τ


def test_search_finds_a_loss_from_the_disk(site):
    act = """async (page) => {
      await page.waitForSelector("#search-results li", { timeout: 20000 });
      return page.textContent("#search-results");
    }"""
    assert "info_nce" in drive((site / "search.html").as_uri() + "?q=info_nce", act)
