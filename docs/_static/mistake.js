// Find the mistake: the gradient that a wrong loss has beside the right one; guess, then read the oracle's report.
"use strict";
touch.figures.mistake = function (root, cases) {
  const { make, within, finite } = touch;
  let k = within(Math.round(finite((touch.read("mistake") || [])[0], 0)), 0, cases.length - 1);
  const steps = make(root, "div", { class: "controls" }), body = make(root, "div");
  const move = (by) => { k = (k + by + cases.length) % cases.length; touch.save("mistake", [k]); draw(); };
  make(steps, "button", { type: "button" }, "← before").addEventListener("click", () => move(-1));
  const place = make(steps, "span", { "aria-live": "polite" });
  make(steps, "button", { type: "button" }, "next →").addEventListener("click", () => move(1));

  function heat(parent, title, rows, top) {
    const box = make(parent, "figure"), size = 40, N = rows.length, M = rows[0].length;
    make(box, "figcaption", {}, title);
    const svg = make(box, "svg", { viewBox: `0 0 ${size * M} ${size * N}`, role: "img",
      "aria-label": `${title}: ${rows.map((row) => row.map((q) => q.toFixed(2)).join(" ")).join("; ")}` });
    rows.forEach((row, i) => row.forEach((q, j) => {
      make(svg, "rect", { x: size * j + 1, y: size * i + 1, width: size - 2, height: size - 2, fill: q < 0 ? "#0072b2" : "#d55e00",
        "fill-opacity": (0.06 + 0.6 * Math.min(Math.abs(q) / top, 1)).toFixed(2) });
      make(svg, "text", { x: size * (j + 0.5), y: size * (i + 0.5) + 4 }, q.toFixed(2));
    }));
  }
  function draw() {
    const one = cases[k], top = Math.max(...one.expected.flat().map(Math.abs));
    body.textContent = "";
    place.textContent = `${k + 1} of ${cases.length}`;
    make(body, "pre", {}, one.code);
    const pictures = make(body, "div", { class: "board two" });
    heat(pictures, "measured: ∂L/∂s of this code", one.measured, top);
    heat(pictures, "expected: ∂L/∂s of the loss", one.expected, top);
    make(body, "p", {}, "Rows are anchors, columns candidates; the positive is on the diagonal. Blue pulls closer, orange pushes away. What is wrong?");
    const answers = make(body, "div", { class: "answers" }), report = make(body, "div", { "aria-live": "polite" });
    one.choices.forEach((choice, i) => {
      const button = make(answers, "button", { type: "button" }, choice);
      button.addEventListener("click", () => {
        button.dataset.right = i === one.answer;
        report.textContent = "";
        make(report, "p", {}, i === one.answer ? "Yes. What the oracle says, word for word:" : "No: look again, or read what the oracle says.");
        const details = make(report, "details");
        details.open = i === one.answer;
        make(details, "summary", {}, "the oracle's report");
        make(details, "pre", {}, one.report);
      });
    });
  }
  draw();
};
