// The mathematics of the pages' figures, in the order of the walk; tested against refcl to twelve digits.
// A classic script with one global, so that it also runs from file:// and in node's vm. Matrices are arrays of rows.
"use strict";
var refcl = (function () {
  const sum = (a) => a.reduce((t, x) => t + x, 0);
  const dot = (a, b) => sum(a.map((x, i) => x * b[i]));
  const times = (a, c) => a.map((x) => x * c);
  const plus = (a, b) => a.map((x, i) => x + b[i]);
  const product = (a, b) => a.map((row) => b[0].map((_, j) => sum(row.map((x, i) => x * b[i][j]))));
  const transpose = (a) => a[0].map((_, j) => a.map((row) => row[j]));

  // ---- encoder: x -> h, one linear layer
  const linear = (x, weight, bias) => product(x, weight).map((row) => plus(row, bias));
  const linearBack = (dh, x, weight) => ({
    dx: product(dh, transpose(weight)), dweight: product(transpose(x), dh), dbias: dh.reduce(plus),
  });

  // ---- sphere: h -> z, rows of length 1; the part of dz along z drops out
  const sphere = (h) => h.map((row) => times(row, 1 / Math.max(Math.sqrt(dot(row, row)), 1e-12)));
  const sphereBack = (dz, h, z) => dz.map((d, i) => {
    const along = dot(d, z[i]), length = Math.sqrt(dot(h[i], h[i]));
    return d.map((x, j) => (x - along * z[i][j]) / length);
  });

  // ---- similarity: z, c -> s
  const similarity = (z, c) => product(z, transpose(c));
  const similarityBack = (ds, z, c) => ({ dz: product(ds, c), dc: product(transpose(ds), z) });

  // ---- pooling and penalty of one anchor: its positive, its negatives -> loss, gradients
  // share: how a push on the gap is divided among the negatives; slope: how hard the anchor pushes at all.
  const softplus = (gap) => Math.max(gap, 0) + Math.log1p(Math.exp(-Math.abs(gap)));
  const sigmoid = (gap) => (gap < 0 ? Math.exp(gap) / (1 + Math.exp(gap)) : 1 / (1 + Math.exp(-gap)));
  const softMaximum = (d, tau, kept) => {
    const top = Math.max(...d.filter((_, k) => kept[k]));
    const e = d.map((x, k) => (kept[k] ? Math.exp((x - top) / tau) : 0)), total = sum(e);
    return { gap: top / tau + Math.log(total), share: times(e, 1 / total) };
  };
  const hardest = (negatives, count) => {
    const threshold = [...negatives].sort((a, b) => b - a)[Math.min(count, negatives.length) - 1];
    return negatives.map((x) => x >= threshold);
  };
  const entropy = (share) => sum(share.map((r) => (r > 0 ? -r * Math.log(r) : 0)));
  const nearestShare = (negatives) => {
    const tied = hardest(negatives, 1), count = tied.filter(Boolean).length;
    return tied.map((t) => (t ? 1 / count : 0));
  };

  function anchor(kind, positive, negatives, tau, count) {
    const d = negatives.map((x) => x - positive), all = negatives.map(() => true);
    let gap, share, loss, slope, dgap;  // dgap: of the gap by a shift of all negatives
    if (kind === "simple") {
      share = negatives.map(() => 1 / negatives.length);
      gap = loss = dot(share, negatives) - positive;
      slope = dgap = 1;
    } else if (kind === "triplet") {
      share = nearestShare(negatives);
      gap = Math.max(...d);
      loss = Math.max(gap, 0);
      slope = gap > 0 ? 1 : 0;
      dgap = 1;
    } else {
      ({ gap, share } = softMaximum(d, tau, kind === "hard" ? hardest(negatives, count) : all));
      loss = kind === "dcl" ? gap : softplus(gap);
      slope = kind === "dcl" ? 1 : sigmoid(gap);
      dgap = 1 / tau;
    }
    const dsNeg = share.map((r) => slope * r * dgap);
    const knob = kind !== "simple" && kind !== "triplet";
    return {
      gap, share, loss, slope, dsNeg, dsPos: -slope * dgap, entropy: entropy(share),
      dtau: knob ? -dot(dsNeg, d) / tau : 0,
    };
  }

  // What the softmax loss tends to: times tau at 0; times tau, less its constant log(K + 1), at infinity.
  function limit(end, positive, negatives) {
    const K = negatives.length, share = end === "zero" ? nearestShare(negatives) : negatives.map(() => 1 / K);
    const loss = end === "zero" ? Math.max(Math.max(...negatives) - positive, 0)
      : (K / (K + 1)) * (sum(negatives) / K - positive);
    return { share, loss, entropy: entropy(share) };
  }

  // ---- reduce, and the walk as a whole: query, key -> L and its gradients; the diagonal is the positive
  function infoNce(query, key, tau) {
    const z = sphere(query), c = sphere(key), s = similarity(z, c), N = s.length;
    const anchors = s.map((row, i) => anchor("softmax", row[i], row.filter((_, k) => k !== i), tau));
    const ds = anchors.map((a, i) => {
      const row = times(a.dsNeg, 1 / N);
      row.splice(i, 0, a.dsPos / N);
      return row;
    });
    const { dz, dc } = similarityBack(ds, z, c);
    return {
      value: sum(anchors.map((a) => a.loss)) / N, z, c, s, anchors, ds, dz, dc,
      dquery: sphereBack(dz, query, z), dkey: sphereBack(dc, key, c), dtau: sum(anchors.map((a) => a.dtau)) / N,
    };
  }

  // ---- about the walk
  const squared = (a, b) => sum(a.map((x, i) => (x - b[i]) ** 2));
  function uniformity(z, t) {
    let total = 0;
    z.forEach((a, i) => z.slice(0, i).forEach((b) => (total += Math.exp(-t * squared(a, b)))));
    return Math.log(total / ((z.length * (z.length - 1)) / 2));
  }
  const alignment = (a, b) => sum(a.map((x, i) => squared(x, b[i]))) / a.length;
  function tolerance(z, labels) {
    const means = z.map((a, i) => {
      const own = z.filter((_, j) => j !== i && labels[j] === labels[i]);
      return own.length ? sum(own.map((b) => dot(a, b))) / own.length : null;
    }).filter((x) => x !== null);
    return sum(means) / means.length;
  }

  return {
    sum, dot, times, plus, product, transpose, linear, linearBack, sphere, sphereBack, similarity, similarityBack,
    softplus, sigmoid, hardest, entropy, anchor, limit, infoNce, uniformity, alignment, tolerance,
  };
})();
