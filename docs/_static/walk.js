// The walk: one small batch through the seven rooms and back. Click a number: the formula, the code, the arithmetic.
"use strict";
touch.figures.walk = function (root, data) {
  const { make, tell, finite } = touch;
  const { inputs, rooms } = data, kept = touch.read("walk") || [];
  const sizes = ["x", "weight", "bias", "key"].map((name) => inputs[name].flat().length);
  const words = [...["x", "weight", "bias", "key"].flatMap((name) => inputs[name].flat()), inputs.temperature]
    .map((x, i) => finite(kept[i], x));
  const tauAt = (p) => 10 ** (p / 50 - 1.7), N = inputs.x.length;
  const columns = { x: inputs.x[0].length, weight: inputs.weight[0].length, bias: inputs.bias[0].length, key: inputs.key[0].length };
  const part = (name) => {
    const k = ["x", "weight", "bias", "key"].indexOf(name), from = refcl.sum(sizes.slice(0, k)), rows = [];
    for (let i = from; i < from + sizes[k]; i += columns[name]) rows.push(words.slice(i, i + columns[name]));
    return rows;
  };

  function walk() {
    const x = part("x"), weight = part("weight"), bias = part("bias"), tau = words[words.length - 1];
    const h = refcl.linear(x, weight, bias[0]), o = refcl.infoNce(h, part("key"), tau), each = (f) => o.anchors.map((a) => [f(a)]);
    const spread = (rows) => rows.map((row, i) => [...row.slice(0, i), null, ...row.slice(i)]);
    const { dx, dweight, dbias } = refcl.linearBack(o.dquery, x, weight);
    return {
      x, weight, bias, c: o.c, tau: [[tau]], h, z: o.z, s: o.s, s_pos: o.s.map((r, i) => [r[i]]),
      s_neg: o.s.map((r, i) => r.map((q, k) => (k === i ? null : q))), gap: each((a) => a.gap), loss: each((a) => a.loss),
      L: [[o.value]], dL: [[1]], dloss: each(() => 1 / N), dgap: each((a) => a.slope / N), relative: spread(o.anchors.map((a) => a.share)),
      ds_pos: each((a) => a.dsPos / N), ds_neg: spread(o.anchors.map((a) => refcl.times(a.dsNeg, 1 / N))), dtemperature: [[o.dtau]],
      ds: o.ds, dz: o.dz, dh: o.dquery, dx, dweight, dbias: [dbias],
    };
  }
  // The arithmetic behind a number, in numbers.
  const n = (q) => (Math.abs(q) < 1e-3 && q !== 0 ? q.toExponential(1) : q.toFixed(3)).replace("-", "−");
  const terms = (a, b) => a.map((q, i) => `${n(q)}·${n(b[i])}`).join(" + ");
  const said = {
    h: (v, i, j) => `${terms(v.x[i], v.weight.map((r) => r[j]))} + ${n(v.bias[0][j])}`,
    z: (v, i, j) => `${n(v.h[i][j])} / √(${terms(v.h[i], v.h[i])})`,
    s: (v, i, j) => terms(v.z[i], v.c[j]),
    s_pos: (v, i) => `s[${i}, ${i}]`, s_neg: (v, i, k) => `s[${i}, ${k}]`,
    gap: (v, i) => `log( ${v.s_neg[i].filter((q) => q !== null).map((q) => `exp((${n(q)} − ${n(v.s_pos[i][0])}) / ${n(v.tau[0][0])})`).join(" + ")} )`,
    loss: (v, i) => `log(1 + exp(${n(v.gap[i][0])}))`, L: (v) => `(${v.loss.map((r) => n(r[0])).join(" + ")}) / ${N}`,
    dL: () => "the walk back begins with 1", dloss: () => `1 / ${N}`,
    dgap: (v, i) => `${n(v.dloss[i][0])} · σ(${n(v.gap[i][0])})`,
    relative: (v, i, k) => `exp(${n(v.s[i][k])} / τ) over the sum of these of all negatives`,
    ds_neg: (v, i, k) => `${n(v.dgap[i][0])} · ${n(v.relative[i][k])} / ${n(v.tau[0][0])}`,
    ds_pos: (v, i) => `−${n(v.dgap[i][0])} / ${n(v.tau[0][0])}`,
    dtemperature: (v) => `−Σ ds⁻ · (s⁻ − s⁺) / ${n(v.tau[0][0])}, over all anchors`,
    ds: (v, i, k) => (i === k ? `ds⁺[${i}]` : `ds⁻[${i}, ${k}]`),
    dz: (v, i, j) => terms(v.ds[i], v.c.map((r) => r[j])),
    dh: (v, i, j) => `(${n(v.dz[i][j])} − (${terms(v.dz[i], v.z[i])}) · ${n(v.z[i][j])}) / ‖h[${i}]‖`,
    dx: (v, i, j) => terms(v.dh[i], v.weight[j]), dweight: (v, i, j) => terms(v.x.map((r) => r[i]), v.dh.map((r) => r[j])),
    dbias: (v, i, j) => v.dh.map((r) => n(r[j])).join(" + "),
  };

  let now = walk(), chosen = null;
  const cells = {};
  function table(parent, name, editable) {
    const box = make(parent, "div", { class: "array" });
    make(box, "span", { class: "name" }, data.names[name] || name);
    const body = make(make(box, "table", {}), "tbody");
    cells[name] = now[name].map((row, i) => {
      const tr = make(body, "tr");
      return row.map((q, j) => {
        const td = make(tr, "td");
        if (q === null) return null;
        if (!editable) {
          const button = make(td, "button", { type: "button", "aria-label": `${data.names[name] || name}, row ${i}, column ${j}` });
          button.addEventListener("click", () => ((chosen = [name, i, j]), explain()));
          return make(button, "span");
        }
        const k = refcl.sum(sizes.slice(0, ["x", "weight", "bias", "key"].indexOf(name))) + i * columns[name] + j;
        const input = make(td, "input", { type: "number", step: 0.1, "aria-label": `${name}, row ${i}, column ${j}` });
        input.value = words[k];
        input.addEventListener("input", () => {
          if (!Number.isFinite(input.valueAsNumber)) return;
          words[k] = input.valueAsNumber;
          draw();
        });
        return null;
      });
    });
  }
  if (!(words[words.length - 1] > 0)) words[words.length - 1] = inputs.temperature;
  now = walk();
  touch.slide(root, "temperature", { min: 0, max: 100, step: 1 }, Math.round(50 * (Math.log10(words[words.length - 1]) + 1.7)), (p) => {
    words[words.length - 1] = +tauAt(p).toPrecision(2);
    draw();
  }, (p) => `τ = ${tauAt(p).toPrecision(2)}`);
  const start = make(root, "div", { class: "rooms" }), given = make(start, "section", { class: "room" });
  make(given, "h3", {}, "what comes in: change it");
  const entry = make(given, "div", { class: "arrays" });
  ["x", "weight", "bias"].forEach((name) => table(entry, name, true));
  now.key = part("key");
  table(entry, "key", true);
  rooms.forEach((room) => {
    const card = make(start, "section", { class: "room" });
    make(make(card, "h3"), "a", { href: room.link }, room.name);
    const there = make(card, "div", { class: "arrays" }), back = make(card, "div", { class: "arrays back" });
    room.forward.forEach((name) => table(there, name));
    room.backward.forEach((name) => table(back, name));
  });
  const panel = make(root, "div", { class: "explained", "aria-live": "polite" });
  make(panel, "p", {}, "Click a number: its formula, its code and its arithmetic stand here. Forward on the left of a room, backward on the right.");

  function explain() {
    const [name, i, j] = chosen, about = data.about[name];
    panel.textContent = "";
    make(panel, "h4", {}, `${data.names[name] || name}[${now[name][0].length > 1 ? `${i}, ${j}` : i}] = ${n(now[name][i][j])}`);
    make(panel, "div").innerHTML = about.formula;
    make(panel, "p", { class: "arithmetic" }, `= ${said[name](now, i, j)}`);
    const pre = make(panel, "pre");
    about.code.split("\n").forEach((line, k) => make(pre, k === about.line ? "mark" : "span", {}, `${line}\n`));
    document.querySelectorAll(".rooms .picked").forEach((b) => b.classList.remove("picked"));
    cells[name][i][j].parentElement.classList.add("picked");
  }
  function draw() {
    now = walk();
    Object.entries(cells).forEach(([name, rows]) => rows.forEach((row, i) => row.forEach((cell, j) => {
      if (cell) tell(cell, now[name][i][j]);
    })));
    if (chosen) explain();
    if (ready) touch.save("walk", words.map((x) => +x.toPrecision(3)));
  }
  let ready = false;
  draw();
  ready = true;
};
