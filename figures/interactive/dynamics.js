// Decentralized learning of a linear model, in the page: f(x_a) = initial_a + features_a . x_i at agent i.
// Iterates are Float64Arrays of agents x parameters, agent by agent; matrices are arrays of rows.
// Methods, graphs and their names are those of the Python package, which tests these numbers.
const dynamics = (() => {
  // --- graphs --------------------------------------------------------------------------------

  const GRAPHS = {
    ring: (m) => pairs(m, (i) => [(i + 1) % m]),
    path: (m) => pairs(m, (i) => (i + 1 < m ? [i + 1] : [])),
    star: (m) => pairs(m, (i) => (i ? [0] : [])),
    complete: (m) => pairs(m, (i) => range(m).filter((j) => j > i)),
    exponential: (m) => pairs(m, (i) => powersBelow(m).map((hop) => (i + hop) % m)),
  };

  const range = (n) => Array.from({ length: n }, (_, i) => i);

  function powersBelow(m) {
    const powers = [];
    for (let hop = 1; hop < m; hop *= 2) powers.push(hop);
    return powers;
  }

  // Links [i, j] with i < j, each once.
  function pairs(m, ahead) {
    const links = new Map();
    for (const i of range(m))
      for (const j of ahead(i)) if (i !== j) links.set(Math.min(i, j) * m + Math.max(i, j), null);
    return [...links.keys()].map((key) => [Math.floor(key / m), key % m]);
  }

  // Links with that one added, or without it if it was there.
  function toggled(links, [i, j]) {
    const link = [Math.min(i, j), Math.max(i, j)];
    const left = links.filter(([k, l]) => k !== link[0] || l !== link[1]);
    return left.length < links.length ? left : [...links, link];
  }

  // How many parts the graph falls into.
  function parts(links, m) {
    const part = range(m);
    for (const [i, j] of links) {
      const [kept, gone] = [part[i], part[j]];
      part.forEach((p, k) => { if (p === gone) part[k] = kept; });
    }
    return new Set(part).size;
  }

  // w_ij = 1 / (1 + max(d_i, d_j)) on links, w_ii = 1 - sum.
  function metropolis(links, m) {
    const degree = new Array(m).fill(0);
    for (const [i, j] of links) (degree[i]++, degree[j]++);
    const W = range(m).map((i) => range(m).map((j) => (i === j ? 1 : 0)));
    for (const [i, j] of links) {
      const weight = 1 / (1 + Math.max(degree[i], degree[j]));
      W[i][j] = W[j][i] = weight;
      W[i][i] -= weight;
      W[j][j] -= weight;
    }
    return W;
  }

  // --- linear algebra ------------------------------------------------------------------------

  // L with L L' = A, lower triangular; A must be positive definite.
  function cholesky(A) {
    const n = A.length;
    const L = range(n).map(() => new Float64Array(n));
    for (let i = 0; i < n; i++)
      for (let j = 0; j <= i; j++) {
        let left = A[i][j];
        for (let k = 0; k < j; k++) left -= L[i][k] * L[j][k];
        L[i][j] = i === j ? Math.sqrt(left) : left / L[j][j];
      }
    return L;
  }

  // x with A x = b, for A positive definite.
  function solve(A, b) {
    const L = cholesky(A);
    const x = Float64Array.from(b);
    for (let i = 0; i < x.length; i++) {
      for (let k = 0; k < i; k++) x[i] -= L[i][k] * x[k];
      x[i] /= L[i][i];
    }
    for (let i = x.length - 1; i >= 0; i--) {
      for (let k = i + 1; k < x.length; k++) x[i] -= L[k][i] * x[k];
      x[i] /= L[i][i];
    }
    return x;
  }

  // All eigenvalues of a symmetric matrix, ascending: Householder's reduction to three diagonals,
  // then implicit QL steps (Golub, Van Loan, sections 8.3.1 and 8.3.5).
  function eigenvalues(symmetric) {
    const { diagonal, beside } = tridiagonal(symmetric.map((row) => Float64Array.from(row)));
    return implicitQL(diagonal, beside).sort((a, b) => a - b);
  }

  function tridiagonal(A) {
    const n = A.length;
    for (let k = 0; k < n - 2; k++) {
      let square = 0;
      for (let i = k + 1; i < n; i++) square += A[i][k] ** 2;
      const length = -Math.sign(A[k + 1][k] || 1) * Math.sqrt(square);
      const v = new Float64Array(n);
      v[k + 1] = A[k + 1][k] - length;
      for (let i = k + 2; i < n; i++) v[i] = A[i][k];
      const norm = square - A[k + 1][k] ** 2 + v[k + 1] ** 2;
      if (square - A[k + 1][k] ** 2 > 0) reflect(A, v, norm, k);
    }
    return { diagonal: A.map((row, i) => row[i]), beside: A.map((row, i) => (i ? row[i - 1] : 0)) };
  }

  // A <- P A P with P = I - 2 v v' / norm.
  function reflect(A, v, norm, from) {
    const n = A.length;
    const p = new Float64Array(n);
    let overlap = 0;
    for (let i = from; i < n; i++) {
      for (let j = from + 1; j < n; j++) p[i] += (2 / norm) * A[i][j] * v[j];
      overlap += (v[i] * p[i]) / norm;
    }
    for (let i = from; i < n; i++) p[i] -= overlap * v[i];
    for (let i = from; i < n; i++)
      for (let j = from; j < n; j++) A[i][j] -= v[i] * p[j] + p[i] * v[j];
  }

  function implicitQL(d, beside) {
    const n = d.length;
    const e = [...beside.slice(1), 0];
    for (let l = 0; l < n; l++) {
      for (let sweep = 0; sweep < 60; sweep++) {
        let m = l;
        while (m < n - 1 && Math.abs(e[m]) > 1e-16 * (Math.abs(d[m]) + Math.abs(d[m + 1]))) m++;
        if (m === l) break;
        const g = (d[l + 1] - d[l]) / (2 * e[l]);
        chase(d, e, l, m, d[m] - d[l] + e[l] / (g + Math.sign(g || 1) * Math.hypot(g, 1)));
      }
    }
    return d;
  }

  // One implicit QL step on rows l to m: rotations chase the bulge upwards.
  function chase(d, e, l, m, g) {
    let [s, c, p] = [1, 1, 0];
    for (let i = m - 1; i >= l; i--) {
      const f = s * e[i];
      const b = c * e[i];
      const r = Math.hypot(f, g);
      e[i + 1] = r;
      if (r === 0) {
        d[i + 1] -= p;
        e[m] = 0;
        return;
      }
      [s, c] = [f / r, g / r];
      g = d[i + 1] - p;
      const t = (d[i] - g) * s + 2 * c * b;
      p = s * t;
      d[i + 1] = g + p;
      g = c * t - b;
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
  }

  // --- problems ------------------------------------------------------------------------------

  // L_i(x) = 1 / (2 n_i) sum over the rows a that agent i owns of (initial_a + features_a . x - y_a)^2,
  // with n_i its points; curvature H_i and slope b_i such that grad L_i(x) = H_i x - b_i.
  function problem({ features, targets, owner, agents, initial, points }) {
    const d = features[0].length;
    const y = targets.map((target, a) => target - (initial ? initial[a] : 0));
    const counts = points || range(agents).map((i) => owner.filter((o) => o === i).length);
    const H = range(agents).map(() => range(d).map(() => new Float64Array(d)));
    const b = range(agents).map(() => new Float64Array(d));
    features.forEach((phi, a) => {
      const i = owner[a];
      for (let k = 0; k < d; k++) {
        b[i][k] += (phi[k] * y[a]) / counts[i];
        for (let l = 0; l < d; l++) H[i][k][l] += (phi[k] * phi[l]) / counts[i];
      }
    });
    return { features, y, owner, agents, counts, d, H, b };
  }

  // All agents' local gradients at x. Flat arrays, because this and mixing are where time goes.
  function gradient({ agents, d, H, b }) {
    const curvature = Float64Array.from(H.flatMap((rows) => rows.flatMap((row) => [...row])));
    const slope = Float64Array.from(b.flatMap((row) => [...row]));
    return (x) => {
      const g = new Float64Array(x.length);
      for (let row = 0, at = 0; row < agents * d; row++) {
        const first = row - (row % d);
        let sum = -slope[row];
        for (let l = 0; l < d; l++, at++) sum += curvature[at] * x[first + l];
        g[row] = sum;
      }
      return g;
    };
  }

  // x -> (W (x) I) x, over the links that there are.
  function mixer(W, d) {
    const heard = W.flatMap((row, i) => range(row.length).map((j) => [i, j, row[j]])).filter(([, , w]) => w);
    const [to, from] = [0, 1].map((end) => Int32Array.from(heard, (link) => link[end] * d));
    const weight = Float64Array.from(heard, (link) => link[2]);
    return (x) => {
      const mixed = new Float64Array(x.length);
      for (let link = 0; link < weight.length; link++)
        for (let k = 0; k < d; k++) mixed[to[link] + k] += weight[link] * x[from[link] + k];
      return mixed;
    };
  }

  // Each agent's loss on its own points, or on everybody's: the common objective.
  const ownLoss = (p, x) => losses(p, x, (i, o) => (i === o ? 1 / p.counts[o] : 0));
  const commonLoss = (p, x) => losses(p, x, (i, o) => 1 / (p.agents * p.counts[o]));

  function losses({ features, y, owner, agents, d }, x, weight) {
    return range(agents).map((i) => {
      let loss = 0;
      features.forEach((phi, a) => {
        const share = weight(i, owner[a]);
        if (!share) return;
        let error = -y[a];
        for (let k = 0; k < d; k++) error += phi[k] * x[i * d + k];
        loss += 0.5 * share * error * error;
      });
      return loss;
    });
  }

  // Where the common objective is least.
  function optimum({ agents, d, H, b }) {
    const total = range(d).map((k) => range(d).map((l) => sum(range(agents), (i) => H[i][k][l])));
    return solve(total, range(d).map((k) => sum(range(agents), (i) => b[i][k])));
  }

  const sum = (items, value) => items.reduce((total, item) => total + value(item), 0);

  // W (x) I - eta diag(H_i): what one round of DGD does to errors.
  function roundOfDGD({ agents, d, H }, W, eta) {
    const at = (n) => [Math.floor(n / d), n % d];
    return range(agents * d).map((row) => {
      const [i, k] = at(row);
      return range(agents * d).map((column) => {
        const [j, l] = at(column);
        return (k === l ? W[i][j] : 0) - (i === j ? eta * H[i][k][l] : 0);
      });
    });
  }

  // The largest stable step size of DGD, W symmetric: 1 / lambda_max((I + W)^-1[o, o'] K / sqrt(n n')).
  function limitOfDGD({ features, owner, agents, counts, d }, W) {
    const shifted = W.map((row, i) => row.map((w, j) => w + (i === j ? 1 : 0)));
    const inverse = range(agents).map((i) => solve(shifted, range(agents).map((j) => +(i === j))));
    const coupled = features.map((phi, a) =>
      features.map((psi, b) => {
        let k = 0;
        for (let l = 0; l < d; l++) k += phi[l] * psi[l];
        return (inverse[owner[a]][owner[b]] * k) / Math.sqrt(counts[owner[a]] * counts[owner[b]]);
      }),
    );
    return 1 / eigenvalues(coupled).at(-1);
  }

  // --- methods -------------------------------------------------------------------------------

  // combine(a, x, b, y, ...) = a x + b y + ...
  function combine(...terms) {
    const out = new Float64Array(terms[1].length);
    for (let term = 0; term < terms.length; term += 2) {
      const factor = terms[term];
      const x = terms[term + 1];
      for (let k = 0; k < out.length; k++) out[k] += factor * x[k];
    }
    return out;
  }

  const memoryless = (next) => ({
    init: (x) => ({ x }),
    step: ({ x }, grad, mix, eta) => ({ x: next(x, grad, mix, eta) }),
  });

  const METHODS = {
    // x <- W x - eta g(x)
    dgd: memoryless((x, grad, mix, eta) => combine(1, mix(x), -eta, grad(x))),
    // v = W x,  x <- v - eta g(v)
    cta: memoryless((x, grad, mix, eta) => {
      const v = mix(x);
      return combine(1, v, -eta, grad(v));
    }),
    // x <- W (x - eta g(x))
    atc: memoryless((x, grad, mix, eta) => mix(combine(1, x, -eta, grad(x)))),
    // x+ = W x - eta y,  y+ = W y + g(x+) - g(x),  y_0 = g(x_0)
    diging: {
      init: (x, grad) => ({ x, y: grad(x), g: grad(x) }),
      step: ({ x, y, g }, grad, mix, eta) => {
        const next = combine(1, mix(x), -eta, y);
        const after = grad(next);
        return { x: next, y: combine(1, mix(y), 1, after, -1, g), g: after };
      },
    },
    // x+ = (I + W) x - (I + W)/2 x- - eta (g(x) - g(x-)),  x_1 = W x_0 - eta g(x_0)
    extra: {
      init: (x) => ({ x, before: null }),
      step: ({ x, before }, grad, mix, eta) => {
        const [mixed, g] = [mix(x), grad(x)];
        if (!before) return { x: combine(1, mixed, -eta, g), before: { x, mixed, g } };
        const next = combine(
          1, x, 1, mixed, -0.5, before.x, -0.5, before.mixed, -eta, g, eta, before.g,
        );
        return { x: next, before: { x, mixed, g } };
      },
    },
    // psi+ = x - eta g(x),  x+ = (I + W)/2 (psi+ + x - psi),  psi_0 = x_0
    exact_diffusion: {
      init: (x) => ({ x, psi: x }),
      step: ({ x, psi }, grad, mix, eta) => {
        const adapted = combine(1, x, -eta, grad(x));
        const corrected = combine(1, adapted, 1, x, -1, psi);
        return { x: combine(0.5, corrected, 0.5, mix(corrected)), psi: adapted };
      },
    },
  };

  // Run a method from x_0 and call see(round, x) in rounds 0 to `rounds`.
  function rollout(name, { grad, mix, eta, start, rounds }, see) {
    const method = METHODS[name];
    let state = method.init(start, grad);
    see(0, state.x);
    for (let round = 1; round <= rounds; round++) {
      state = method.step(state, grad, mix, eta);
      see(round, state.x);
    }
  }

  // The mean over agents.
  function average(x, d) {
    const mean = new Float64Array(d);
    for (let k = 0; k < x.length; k++) mean[k % d] += (x[k] * d) / x.length;
    return mean;
  }

  // Root mean square over agents of their distance from a centre.
  function distance(x, centre) {
    const d = centre.length;
    let total = 0;
    for (let k = 0; k < x.length; k++) total += (x[k] - centre[k % d]) ** 2;
    return Math.sqrt((total * d) / x.length);
  }

  const runOn = (p, W, eta, rounds) => ({
    grad: gradient(p), mix: mixer(W, p.d), eta, rounds, start: new Float64Array(p.agents * p.d),
  });

  // --- one kernel mode x one graph mode ------------------------------------------------------

  // x+ = a x - b x-: every method on a mode of the kernel (s = step size x eigenvalue) and one of
  // the graph (w), with all agents sharing the kernel.
  const RECURSIONS = {
    dgd: (s, w) => ({ a: w - s, b: 0 }),
    cta: (s, w) => ({ a: w * (1 - s), b: 0 }),
    atc: (s, w) => ({ a: w * (1 - s), b: 0 }),
    diging: (s, w) => ({ a: 2 * w - s, b: w * w - s }),
    extra: (s, w) => ({ a: 1 + w - s, b: (1 + w) / 2 - s }),
    exact_diffusion: (s, w) => ({ a: ((1 + w) / 2) * (2 - s), b: ((1 + w) / 2) * (1 - s) }),
  };

  // The two roots of z^2 - a z + b, as [real, imaginary].
  function roots({ a, b }) {
    const inside = (a * a) / 4 - b;
    const wide = Math.sqrt(Math.abs(inside));
    if (inside < 0) return [[a / 2, wide], [a / 2, -wide]];
    return [[a / 2 + wide, 0], [a / 2 - wide, 0]];
  }

  const radius = (recursion) => Math.max(...roots(recursion).map((z) => Math.hypot(...z)));

  // A method on one mode: x_0 = 1, gradient s x / eta with eta = 1, mixing by w.
  function oneMode(name, s, w, rounds) {
    const seen = [];
    const scaled = (factor) => (x) => x.map((value) => factor * value);
    const run = { grad: scaled(s), mix: scaled(w), eta: 1, start: new Float64Array([1]), rounds };
    rollout(name, run, (_, x) => seen.push(x[0]));
    return seen;
  }

  return {
    GRAPHS, METHODS, RECURSIONS, range, sum, toggled, parts, metropolis, mixer, eigenvalues, cholesky, solve, problem, ownLoss,
    commonLoss, optimum, roundOfDGD, limitOfDGD, combine, rollout, average, distance, runOn, roots, radius, oneMode,
  };
})();
