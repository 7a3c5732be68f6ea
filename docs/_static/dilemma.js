// The dilemma: 24 samples of four classes, a small encoder, InfoNCE by gradient descent; uniformity against tolerance.
"use strict";
touch.figures.dilemma = function (root) {
  const { make, set, within, finite } = touch;
  const CLASSES = 4, EACH = 6, WIDTH = 0.25, JITTER = 0.1, RATE = 0.05, C = 150, R = 118, LONGEST = 400;
  const tauAt = (p) => 10 ** (-1.5 + (2.5 * p) / 100);
  const kept = touch.read("dilemma") || [];
  let p = within(finite(kept[0], 40), 0, 100);

  // Inputs lie in the plane, a class in each quarter. The encoder is linear in bumps around them, so that near inputs
  // move together; it starts as the inputs' own directions.
  let normal = touch.generator(3);
  const x = [], labels = [];
  for (let i = 0; i < CLASSES * EACH; i++) {
    const c = Math.floor(i / EACH), a = (c * 2 * Math.PI) / CLASSES;
    x.push([Math.cos(a) + 0.22 * normal(), Math.sin(a) + 0.22 * normal()]);
    labels.push(c);
  }
  const bumps = (at) => at.map((a) => x.map((c) => Math.exp(-((a[0] - c[0]) ** 2 + (a[1] - c[1]) ** 2) / (2 * WIDTH ** 2))));
  const shaken = () => x.map((a) => a.map((q) => q + JITTER * normal()));
  const still = bumps(x), mate = 5, near = 3;  // two semantic neighbours of one class, which should stay near
  let weight, first, second, steps, trace, playing = true;
  function restart() {
    normal = touch.generator(12);
    weight = x.map((a) => a.map((q) => 0.5 * q + 0.1 * normal()));
    first = x.map(() => [0, 0]);
    second = x.map(() => [0, 0]);
    steps = 0;
    trace = [];
  }
  function step() {
    const fa = bumps(shaken()), fb = bumps(shaken());
    const loss = refcl.infoNce(refcl.product(fa, weight), refcl.product(fb, weight), tauAt(p));
    const here = refcl.product(refcl.transpose(fa), loss.dquery), there = refcl.product(refcl.transpose(fb), loss.dkey);
    steps++;
    weight = weight.map((row, i) => row.map((w, j) => {  // Adam
      const g = here[i][j] + there[i][j];
      first[i][j] = 0.9 * first[i][j] + 0.1 * g;
      second[i][j] = 0.99 * second[i][j] + 0.01 * g * g;
      return w - (RATE * first[i][j]) / (1 - 0.9 ** steps) / (Math.sqrt(second[i][j] / (1 - 0.99 ** steps)) + 1e-8);
    }));
  }

  const controls = make(root, "div", { class: "controls" });
  touch.slide(controls, "temperature", { min: 0, max: 100, step: 1 }, p, (now) => {
    p = now;
    steps = Math.min(steps, LONGEST / 2);  // goes on from here
    touch.save("dilemma", [p]);
    play(true);
  }, (q) => `τ = ${tauAt(q).toPrecision(2)}`);
  const button = make(controls, "button", { type: "button" }, "pause");
  const again = make(controls, "button", { type: "button" }, "start again");
  const board = make(root, "div", { class: "board two" });
  const disc = make(board, "svg", { viewBox: "0 0 300 300", role: "img", "aria-label": "embeddings on the circle, coloured by class" });
  make(disc, "circle", { cx: C, cy: C, r: R, class: "rim" });
  const chord = make(disc, "line", { class: "chord" });
  const dots = x.map((_, i) => make(disc, "circle", { r: i === mate || i === near ? 8 : 5.5, fill: touch.colours[labels[i]],
    class: i === mate || i === near ? "marked" : "" }));
  const plane = make(board, "svg", { viewBox: "0 0 300 300", role: "img", "aria-label": "uniformity against tolerance over the steps" });
  const X = (u) => 46 + ((u - 0.2) / 1.7) * 240, Y = (t) => 256 - ((t - 0.6) / 0.4) * 236;
  make(plane, "path", { class: "axes", d: "M46 20V256H286" });
  [0.7, 0.8, 0.9, 1].forEach((t) => make(plane, "text", { x: 40, y: Y(t) + 4, class: "end" }, t.toFixed(1)));
  [0.5, 1, 1.5].forEach((u) => make(plane, "text", { x: X(u), y: 272 }, u.toFixed(1)));
  make(plane, "text", { x: 166, y: 292 }, "uniformity (more: spread out) →");
  make(plane, "text", { transform: "translate(12 138) rotate(-90)" }, "tolerance (more: classes together) →");
  const line = make(plane, "path", { class: "trace" }), now = make(plane, "circle", { r: 6, class: "now" });
  const summary = make(root, "p", { class: "summary" });

  function draw() {
    const z = refcl.sphere(refcl.product(still, weight)), u = -refcl.uniformity(z, 2), t = refcl.tolerance(z, labels);
    z.forEach((a, i) => set(dots[i], { cx: (C + R * a[0]).toFixed(1), cy: (C - R * a[1]).toFixed(1) }));
    set(chord, { x1: C + R * z[mate][0], y1: C - R * z[mate][1], x2: C + R * z[near][0], y2: C - R * z[near][1] });
    trace.push(`${X(within(u, 0.2, 1.9)).toFixed(1)} ${Y(within(t, 0.6, 1)).toFixed(1)}`);
    line.setAttribute("d", `M${trace.join("L")}`);
    const [cx, cy] = trace[trace.length - 1].split(" ");
    set(now, { cx, cy });
    const angle = (Math.acos(within(refcl.dot(z[mate], z[near]), -1, 1)) * 180) / Math.PI;
    summary.textContent = `Step ${steps}: uniformity ${u.toFixed(2)}, tolerance ${t.toFixed(2)}; the two ringed samples of one class are ${
      Math.round(angle)}° apart.`;
    root.dataset.measured = JSON.stringify({ steps, uniformity: u, tolerance: t, angle });
  }
  function tick() {
    if (!playing) return;
    if (steps >= LONGEST) return play(false);
    step();
    step();
    draw();
    requestAnimationFrame(tick);
  }
  function play(on) {
    const was = playing;
    playing = on;
    button.textContent = on ? "pause" : "go on";
    if (on && !was) requestAnimationFrame(tick);
  }
  button.addEventListener("click", () => {
    if (!playing && steps >= LONGEST) steps = LONGEST / 2;
    play(!playing);
  });
  again.addEventListener("click", () => (restart(), draw(), play(true)));
  restart();
  draw();
  // Nobody who asked for less motion is shown any before asking for it.
  playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  button.textContent = playing ? "pause" : "go";
  if (playing) requestAnimationFrame(tick);
};
