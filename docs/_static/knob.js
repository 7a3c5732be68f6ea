// The knob: an anchor, its positive and six negatives on a circle or a sphere (seen from above); what each loss pushes.
"use strict";
touch.figures.knob = function (root) {
  const { make, set, tell, within, finite } = touch;
  const KINDS = ["softmax", "simple", "hard", "triplet"], NAMES = ["anchor", "positive", "1", "2", "3", "4", "5", "6"];
  const TITLES = ["softmax", "simple", "hard softmax (the 3 nearest)", "triplet, margin 0"];
  const LAST = 100, C = 160, R = 118, START = [90, 58, 124, 28, 0, 160, 215, 300];
  const tauAt = (p) => (p <= 0 ? 0 : p >= LAST ? Infinity : 10 ** (-1.7 + (3 * (p - 1)) / (LAST - 2)));
  const say = (p) => (p <= 0 ? "τ → 0⁺" : p >= LAST ? "τ → ∞" : `τ = ${tauAt(p).toPrecision(2)}`);

  // ---- state
  const kept = touch.read("knob") || [];
  const state = {
    p: within(finite(kept[0], 34), 0, LAST), kind: within(Math.round(finite(kept[1], 0)), 0, 3),
    sphere: kept[2] === "1",
    points: START.map((degrees, i) => {
      const a = (degrees * Math.PI) / 180, at = kept.slice(3 + 3 * i, 6 + 3 * i);
      return { x: within(finite(at[0], Math.cos(a)), -1, 1), y: within(finite(at[1], Math.sin(a)), -1, 1),
        side: at[2] === "-1" ? -1 : 1 };
    }),
  };
  const save = () => touch.save("knob", [state.p, state.kind, +state.sphere,
    ...state.points.flatMap((p) => [p.x.toFixed(2), p.y.toFixed(2), p.side])]);
  // A point of the circle is pressed onto the rim; one of the sphere has its height from x and y.
  const unit = (p) => {
    const flat = Math.hypot(p.x, p.y) || 1e-9;
    if (!state.sphere) return [p.x / flat, p.y / flat, 0];
    return flat > 1 ? [p.x / flat, p.y / flat, 0] : [p.x, p.y, p.side * Math.sqrt(1 - flat * flat)];
  };

  // ---- furniture
  const controls = make(root, "div", { class: "controls" });
  touch.choose(controls, "embeddings on a", ["circle", "sphere"], +state.sphere, (i) => { state.sphere = i === 1; draw(); });
  touch.choose(controls, "arrows of", KINDS, state.kind, (i) => { state.kind = i; draw(); });
  touch.slide(root, "temperature", { min: 0, max: LAST, step: 1 }, state.p, (p) => { state.p = p; draw(); }, say);
  const board = make(root, "div", { class: "board" });
  const svg = make(board, "svg", { viewBox: "0 0 320 320", class: "disc", role: "group",
    "aria-label": "embeddings; drag a point, or focus it and use the arrow keys; F turns it to the other side of the sphere" });
  make(svg, "circle", { cx: C, cy: C, r: R, class: "rim" });
  const arrows = NAMES.map(() => make(svg, "path", { class: "push" }));
  const handles = NAMES.map((name, i) => {
    const g = make(svg, "g", { class: `point ${i < 2 ? name : "negative"}`, tabindex: 0, role: "slider",
      "aria-label": i < 2 ? name : `negative ${name}` });
    make(g, "circle", { r: 20, class: "grip" });
    make(g, "circle", { r: 11, class: "dot" });
    make(g, "text", { dy: ".35em" }, i < 2 ? "a+"[i] : name);
    const point = state.points[i], flip = () => { point.side = -point.side; draw(); };
    touch.drag(g, svg, (x, y) => place(point, (x - C) / R, (C - y) / R), (dx, dy) => {
      const [x, y] = unit(point);
      if (state.sphere) return place(point, x + dx * 0.04, y + dy * 0.04);
      const turn = ((dy || -dx) * Math.PI) / 90;  // left and up turn against the clock
      return place(point, x * Math.cos(turn) - y * Math.sin(turn), x * Math.sin(turn) + y * Math.cos(turn));
    }, flip);
    g.addEventListener("keydown", (event) => event.key.toLowerCase() === "f" && flip());
    return g;
  });
  function place(point, x, y) {
    const length = Math.hypot(x, y), rim = state.sphere ? Math.max(length, 1) : length || 1;
    Object.assign(point, { x: x / rim, y: y / rim });
    draw();
  }
  const panels = make(board, "div", { class: "panels" });
  const charts = KINDS.map((kind, k) => {
    const box = make(panels, "div", { class: "panel" });
    make(box, "b", {}, TITLES[k]);
    const chart = make(box, "svg", { viewBox: "0 0 150 84", role: "img" });
    const bars = NAMES.slice(2).map((name, i) => {
      const bar = [make(chart, "rect", { x: 4 + 25 * i, width: 18, class: "share" }),
        make(chart, "rect", { x: 4 + 25 * i, width: 18, class: "force" })];
      make(chart, "text", { x: 13 + 25 * i, y: 82 }, name);
      return bar;
    });
    const numbers = make(box, "dl");
    const cells = ["loss", "dτ", "entropy"].map((name) => {
      const term = make(numbers, "dt", {}, name);
      return { term, value: make(numbers, "dd") };
    });
    return { box, chart, bars, cells };
  });
  const summary = make(root, "p", { class: "summary", "aria-live": "polite" });

  // ---- one picture of the state
  function draw() {
    const tau = tauAt(state.p), z = state.points.map(unit), a = z[0];
    const [positive, ...negatives] = z.slice(1).map((b) => refcl.dot(a, b));
    const end = tau === 0 ? "zero" : tau === Infinity ? "infinity" : null;
    const found = KINDS.map((kind) => {
      if (!end || kind === "simple" || kind === "triplet") return refcl.anchor(kind, positive, negatives, tau, 3);
      const near = kind === "hard" && end === "infinity" ? refcl.hardest(negatives, 3) : negatives.map(() => true);
      const inside = refcl.limit(end, positive, negatives.filter((_, k) => near[k]));
      let next = 0;
      const count = inside.share.length;
      const slope = end === "zero" ? +(inside.loss > 0) : count / (count + 1);
      return { ...inside, share: near.map((x) => (x ? inside.share[next++] : 0)), slope, dtau: NaN };
    });
    found.forEach((one, k) => {
      const { box, chart, bars, cells } = charts[k], ending = end && !Number.isFinite(one.dtau);
      box.classList.toggle("chosen", k === state.kind);
      bars.forEach(([share, force], i) => {
        const height = one.share[i] * 68;
        set(share, { y: 70 - height, height });
        set(force, { y: 70 - height * one.slope, height: height * one.slope });
      });
      cells[0].term.textContent = !ending ? "loss" : end === "zero" ? "τ·loss" : "τ(loss − log(K+1))";
      tell(cells[0].value, one.loss);
      tell(cells[1].value, ending ? "–" : one.dtau);
      tell(cells[2].value, one.entropy);
      chart.setAttribute("aria-label", `relative penalties: ${one.share.map((r, i) => `negative ${i + 1} ${r.toFixed(2)}`).join(", ")}`);
    });
    // One step against the gradient, times τ; along the sphere, where the embeddings live.
    const one = found[state.kind], forces = one.share.map((r) => r * one.slope);
    const along = (g, at) => refcl.plus(g, refcl.times(at, -refcl.dot(g, at)));
    const toAnchor = z.slice(2).reduce((g, b, k) => refcl.plus(g, refcl.times(b, -forces[k])), refcl.times(z[1], one.slope));
    const steps = [toAnchor, refcl.times(a, one.slope), ...forces.map((f) => refcl.times(a, -f))];
    z.forEach((at, i) => {
      const g = along(steps[i], at), x = C + R * at[0], y = C - R * at[1];
      touch.arrow(arrows[i], x, y, 100 * g[0], -100 * g[1]);
      handles[i].setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      handles[i].classList.toggle("behind", at[2] < -1e-9);
      const s = refcl.dot(a, at);
      set(handles[i], { "aria-valuemin": -1, "aria-valuemax": 1, "aria-valuenow": (i ? s : 1).toFixed(2),
        "aria-valuetext": i ? `similarity to the anchor ${s.toFixed(2)}` : `at ${Math.round((Math.atan2(at[1], at[0]) * 180) / Math.PI)} degrees` });
    });
    const most = one.share.indexOf(Math.max(...one.share));
    summary.textContent = `${say(state.p)}: of the push on the negatives, ${Math.round(100 * one.share[most])} % goes to negative ${
      most + 1} (similarity ${negatives[most].toFixed(2)}); the anchor pushes with ${Math.round(100 * one.slope)} % of its force.`;
    if (ready) save();
  }
  let ready = false;
  draw();
  ready = true;
};
