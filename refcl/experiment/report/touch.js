// What the figures share: elements, dragging by mouse, finger and keys, numbers that show that they moved, and a state
// that stands in the page's address. A figure is a function in touch.figures that fills an element with data-figure.
"use strict";
var touch = (function () {
  const figures = {};
  const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
  const SVG = new Set(["svg", "g", "circle", "line", "path", "rect", "text", "title"]);

  function set(element, attributes) {
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    return element;
  }
  function make(parent, tag, attributes, text) {
    const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(set(element, attributes || {}));
    return element;
  }
  // A number that says when it moved, and which way. What is announced is for eyes: screen readers get one summary.
  function tell(element, x, digits) {
    const text = typeof x === "string" ? x : Math.abs(x) < 1e-3 && x !== 0 ? x.toExponential(1) : x.toFixed(digits ?? 3);
    if (element.textContent !== text) {
      const up = parseFloat(text) > parseFloat(element.textContent);
      if (element.textContent) {
        element.dataset.moved = up ? "up" : "down";
        clearTimeout(element.timer);
        element.timer = setTimeout(() => delete element.dataset.moved, 900);
      }
      element.textContent = text;
    }
  }
  // Makes a handle of an element: onto(x, y) in the units of the svg, keyed(dx, dy) in steps, twice() where tapped twice.
  function drag(handle, svg, onto, keyed, twice) {
    let held = false, last = -1e9;
    handle.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });  // no panning
    handle.addEventListener("pointerdown", (event) => {
      if (event.timeStamp - last < 350 && twice) twice();
      last = event.timeStamp;
      held = true;
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!held) return;
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      onto(at.x, at.y);
    });
    ["pointerup", "pointercancel"].forEach((name) => handle.addEventListener(name, () => (held = false)));
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      keyed(...step.map((x) => x * (event.shiftKey ? 5 : 1)));
    });
  }
  function arrow(path, x, y, dx, dy) {
    const length = Math.hypot(dx, dy), u = dx / length, v = dy / length, head = Math.min(7, length / 2);
    const X = x + dx, Y = y + dy, n = (a) => a.toFixed(1);
    path.setAttribute("d", length < 1.5 ? "" : `M${n(x)} ${n(y)}L${n(X)} ${n(Y)}M${n(X - head * (u - v / 2))} ${
      n(Y - head * (v + u / 2))}L${n(X)} ${n(Y)}L${n(X - head * (u + v / 2))} ${n(Y - head * (v - u / 2))}`);
  }
  // One of several: native radio buttons, so that keys and screen readers know them.
  let groups = 0;
  function choose(parent, legend, names, now, chosen) {
    const box = make(parent, "fieldset"), group = `choice${groups++}`;
    make(box, "legend", {}, legend);
    names.forEach((name, i) => {
      const label = make(box, "label");
      const input = make(label, "input", { type: "radio", name: group, value: i });
      input.checked = i === now;
      input.addEventListener("change", () => chosen(i));
      label.append(name);
    });
    return box;
  }
  function slide(parent, name, range, now, moved, say) {
    const label = make(parent, "label", { class: "slider" }, `${name} `);
    const input = make(label, "input", { type: "range", ...range });
    const output = make(label, "output");
    input.value = now;
    const show = () => {
      output.textContent = say(+input.value);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => (show(), moved(+input.value)));
    show();
    return input;
  }
  // The state of a figure in the address: #name=words. Written late, since browsers refuse to be asked too often.
  const read = (name) => {
    const found = location.hash.slice(1).split("=");
    return found[0] === name && found[1] ? decodeURIComponent(found[1]).split(",") : null;
  };
  let later;
  function save(name, words) {
    clearTimeout(later);
    later = setTimeout(() => history.replaceState(null, "", `#${name}=${words.join(",")}`), 250);
  }
  const finite = (x, otherwise) => (Number.isFinite(+x) && x !== "" && x !== undefined ? +x : otherwise);
  const within = (x, low, high) => Math.min(Math.max(x, low), high);
  function generator(seed) {  // mulberry32, and normal numbers from it
    const uniform = () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  }
  const start = () => document.querySelectorAll("[data-figure]").forEach((root) => {
    const data = root.querySelector("script[type='application/json']");
    const held = data && JSON.parse(data.textContent);
    root.textContent = "";
    figures[root.dataset.figure](root, held);
    root.dataset.ready = "";
  });
  if (typeof document !== "undefined") document.addEventListener("DOMContentLoaded", start);
  return { figures, colours, set, make, tell, drag, arrow, choose, slide, read, save, finite, within, generator };
})();
