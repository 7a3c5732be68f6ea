// The study's results: a point a run, from results.json. Choose axes and losses; point at a run for its record.
"use strict";
touch.figures.study = function (root, records) {
  const { make, set, within, finite } = touch;
  const AXES = ["uniformity", "tolerance", "few_label_accuracy", "linear_accuracy", "alignment", "temperature"]
    .filter((name) => records.some((r) => Number.isFinite(r[name])));
  const losses = [...new Set(records.map((r) => r.loss))], kept = touch.read("study") || [];
  const axis = (i, otherwise) => within(Math.round(finite(kept[i], otherwise)), 0, AXES.length - 1);
  let x = axis(0, 0), y = axis(1, 1), hidden = within(Math.round(finite(kept[2], 0)), 0, 2 ** losses.length - 1);
  const controls = make(root, "div", { class: "controls" }), words = (name) => name.replaceAll("_", " ");
  touch.choose(controls, "across", AXES.map(words), x, (i) => ((x = i), draw()));
  touch.choose(controls, "up", AXES.map(words), y, (i) => ((y = i), draw()));
  const box = make(controls, "fieldset");
  make(box, "legend", {}, "losses");
  losses.forEach((loss, k) => {
    const label = make(box, "label"), input = make(label, "input", { type: "checkbox" });
    input.checked = !((hidden >> k) & 1);
    input.addEventListener("change", () => ((hidden ^= 1 << k), draw()));
    set(make(label, "span", { class: "key" }), { style: `background:${touch.colours[k % 6]}` });
    label.append(` ${loss}`);
  });
  const svg = make(root, "svg", { viewBox: "0 0 480 330", class: "plane", role: "group", "aria-label": "runs of the study" });
  const record = make(root, "p", { class: "summary", "aria-live": "polite" });
  const tell = (r) => (record.textContent = [`${r.loss}${r.temperature === null ? "" : `, τ = ${r.temperature}`}, seed ${r.seed}`,
    ...AXES.filter((a) => a !== "temperature" && Number.isFinite(r[a])).map((a) => `${words(a)} ${/accuracy/.test(a) ? `${(100 * r[a]).toFixed(1)} %` : r[a].toFixed(3)}`)].join("; "));

  function draw() {
    const names = [AXES[x], AXES[y]], scale = names.map((name) => (name === "temperature" ? Math.log10 : (q) => q));
    const shown = records.filter((r) => !((hidden >> losses.indexOf(r.loss)) & 1) && names.every((name) => Number.isFinite(r[name])));
    svg.textContent = "";
    make(svg, "path", { class: "axes", d: "M56 14V284H470" });
    make(svg, "text", { x: 263, y: 322 }, `${words(names[0])} →`);
    make(svg, "text", { transform: "translate(13 150) rotate(-90)" }, `${words(names[1])} →`);
    if (!shown.length) return;
    const [X, Y] = names.map((name, k) => {
      const all = shown.map((r) => scale[k](r[name])), low = Math.min(...all), wide = Math.max(...all) - low || 1;
      const [from, length] = k ? [268, -238] : [72, 384];
      [0, 0.5, 1].forEach((part) => {
        const q = low + part * wide, label = (name === "temperature" ? 10 ** q : q).toPrecision(2), at = from + part * length;
        make(svg, "text", k ? { x: 50, y: at + 4, class: "end" } : { x: at, y: 300 }, label);
      });
      return (r) => from + ((scale[k](r[name]) - low) / wide) * length;
    });
    losses.forEach((loss, k) => {
      const own = shown.filter((r) => r.loss === loss).sort((a, b) => a.temperature - b.temperature || a.seed - b.seed);
      const first = own.length ? own[0].seed : 0, chain = own.filter((r) => r.seed === first);
      make(svg, "path", { class: "trace", style: `stroke:${touch.colours[k % 6]}`, d: chain.length > 1 ? `M${chain.map((r) => `${X(r).toFixed(1)} ${Y(r).toFixed(1)}`).join("L")}` : "" });
      own.forEach((r) => {
        const dot = make(svg, "circle", { cx: X(r).toFixed(1), cy: Y(r).toFixed(1), r: 6, fill: touch.colours[k % 6], tabindex: 0,
          role: "img", class: "run", "aria-label": `${loss} ${r.temperature ?? ""}` });
        ["pointerenter", "focus", "click"].forEach((name) => dot.addEventListener(name, () => tell(r)));
        if (r.temperature !== null && r.seed === first) make(svg, "text", { x: X(r) + 9, y: Y(r) - 7, class: "tiny" }, `${r.temperature}`);
      });
    });
    if (ready) touch.save("study", [x, y, hidden]);
  }
  let ready = false;
  draw();
  ready = true;
  record.textContent = "Point at a run, or go to it with the tab key: its record stands here.";
};
