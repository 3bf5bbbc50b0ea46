// Deterministic equivalents on a graph, as ntkdyn.theory.learning_curves has them: complex numbers are
// [real, imaginary] side by side in flat arrays, matrices row by row.
explorable.equivalents = (() => {
  const { range } = dynamics;
  const NODES = 8;

  // --- complex matrices, m x m -----------------------------------------------------------------

  // The columns of M (n numbers a row) after A, its first m, become A^-1 times themselves: Gauss and
  // Jordan, with the largest pivot of each column.
  function solve(M, n, m) {
    for (let c = 0; c < m; c++) {
      swap(M, n, c, pivot(M, n, c, m));
      const at = c * n + 2 * c;
      const scale = M[at] ** 2 + M[at + 1] ** 2;
      const re = M[at] / scale;
      const im = -M[at + 1] / scale;
      for (let k = at + 2; k < (c + 1) * n; k += 2) times(M, k, re, im);
      for (let r = 0; r < m; r++) if (r !== c) subtract(M, n, r, c);
    }
  }

  function pivot(M, n, c, m) {
    const size = (r) => M[r * n + 2 * c] ** 2 + M[r * n + 2 * c + 1] ** 2;
    let best = c;
    for (let r = c + 1; r < m; r++) if (size(r) > size(best)) best = r;
    return best;
  }

  function swap(M, n, a, b) {
    if (a === b) return;
    for (let k = 0; k < n; k++) {
      const kept = M[a * n + k];
      M[a * n + k] = M[b * n + k];
      M[b * n + k] = kept;
    }
  }

  // Row r less its entry in column c times row c, right of that column.
  function subtract(M, n, r, c) {
    const re = M[r * n + 2 * c];
    const im = M[r * n + 2 * c + 1];
    for (let k = 2 * c + 2; k < n; k += 2) {
      M[r * n + k] -= re * M[c * n + k] - im * M[c * n + k + 1];
      M[r * n + k + 1] -= re * M[c * n + k + 1] + im * M[c * n + k];
    }
  }

  function times(M, k, re, im) {
    const real = M[k] * re - M[k + 1] * im;
    M[k + 1] = M[k] * im + M[k + 1] * re;
    M[k] = real;
  }

  // --- the circle: panels of Gauss-Legendre nodes on |z| = exp(1 / last), as wide next to z = 1 as that is far -
  // The last panel is cut in four: next to z = -1 is where large steps make responses steep.

  function legendre() {
    const x = range(NODES).map((i) => root(Math.cos((Math.PI * (i + 0.75)) / (NODES + 0.5))));
    const weight = x.map((at) => 2 / ((1 - at * at) * polynomials(at)[1] ** 2));
    const values = x.map((at) => polynomials(at)[0]);
    return { x, coefficients: (n, q) => (n + 0.5) * values[q][n] * weight[q] };
  }

  // P_0 to P_(NODES-1) at x, the derivative of P_NODES, and P_NODES.
  function polynomials(x) {
    const P = [1, x];
    for (let n = 1; n < NODES; n++) P.push(((2 * n + 1) * x * P[n] - n * P[n - 1]) / (n + 1));
    return [P, (NODES * (x * P[NODES] - P[NODES - 1])) / (x * x - 1), P[NODES]];
  }

  function root(x) {
    for (let step = 0; step < 8; step++) {
      const [, slope, value] = polynomials(x);
      x -= value / slope;
    }
    return x;
  }

  // Spherical Bessel functions j_0 to j_(NODES-1): upwards where that is stable, else their series.
  function bessel(x) {
    if (x === 0) return range(NODES).map((n) => (n ? 0 : 1));
    const j = [Math.sin(x) / x, Math.sin(x) / x ** 2 - Math.cos(x) / x];
    let first = 1;
    for (let n = 0; n < NODES; n++) {
      if (n) first *= x / (2 * n + 1);
      if (n < 2 && x > 1) continue;
      j[n] = n > 1 && x > n ? ((2 * n - 1) / x) * j[n - 1] - j[n - 2] : series(first, n, x);
    }
    return j;
  }

  function series(first, n, x) {
    let [term, total] = [first, first];
    for (let k = 1; k < 40; k++) {
      term *= (-x * x) / 2 / (k * (2 * n + 2 * k + 1));
      total += term;
    }
    return total;
  }

  // Nodes z - 1, and w with x_t = 2 Re sum_q w_tq f(z_q); times z / (z - 1) as `driven`.
  function circle(last, rounds) {
    const { x, coefficients } = legendre();
    const doublings = Math.ceil(Math.log2((Math.PI / 2) * last));
    const widths = range(doublings + 1).map((k) => Math.PI * 2 ** (k - doublings));
    const edges = [0, ...widths.slice(0, -1), 0.7 * Math.PI, 0.86 * Math.PI, 0.95 * Math.PI, Math.PI];
    const rho = 1 / last;
    const shifts = [];
    const driven = rounds.map(() => []);
    for (const p of range(edges.length - 1)) {
      const [middle, half] = [(edges[p + 1] + edges[p]) / 2, (edges[p + 1] - edges[p]) / 2];
      const nodes = x.map((at) => {
        const phi = middle + half * at;
        return [Math.expm1(rho) * Math.cos(phi) - 2 * Math.sin(phi / 2) ** 2, Math.exp(rho) * Math.sin(phi)];
      });
      shifts.push(...nodes);
      rounds.forEach((t, row) => {
        const j = bessel(Math.abs(t) * half).map((value, n) => (t < 0 && n % 2 ? -value : value));
        const size = (Math.exp(t * rho) * half) / Math.PI;
        const [c, s] = [size * Math.cos(t * middle), size * Math.sin(t * middle)];
        nodes.forEach(([a, b], q) => {
          let [re, im] = [0, 0];
          for (let n = 0; n < NODES; n++) {
            const value = j[n] * coefficients(n, q);
            if (n % 2) im += n % 4 === 1 ? value : -value;
            else re += n % 4 === 0 ? value : -value;
          }
          const w = [re * c - im * s, re * s + im * c];
          const scale = a * a + b * b;
          const step = [1 + a / scale, -b / scale];
          driven[row].push(w[0] * step[0] - w[1] * step[1], w[0] * step[1] + w[1] * step[0]);
        });
      });
    }
    return { shifts, driven: driven.map((row) => Float64Array.from(row)) };
  }

  // --- one point -------------------------------------------------------------------------------

  // H(z), from gradients to where they are taken: eta (z - W)^-1 of DGD, eta (z - W)^-1 W of ATC.
  function transfer({ W, eta, method }, [a, b]) {
    const m = W.length;
    const M = new Float64Array(4 * m * m);
    for (let i = 0; i < m; i++)
      for (let j = 0; j < m; j++) {
        const at = 4 * i * m + 2 * j;
        M[at] = (i === j ? 1 + a : 0) - W[i][j];
        M[at + 1] = i === j ? b : 0;
        M[at + 2 * m] = eta * (method === "atc" ? W[i][j] : i === j ? 1 : 0);
      }
    solve(M, 4 * m, m);
    return right(M, m);
  }

  // The second half of the columns of M, m x 2m.
  function right(M, m) {
    const part = new Float64Array(2 * m * m);
    for (let i = 0; i < m; i++) for (let k = 0; k < 2 * m; k++) part[2 * i * m + k] = M[4 * i * m + 2 * m + k];
    return part;
  }

  // G_k = (I + lambda H D)^-1 H of every mode, D = diag(s).
  function responses(H, s, values, m) {
    const M = new Float64Array(4 * m * m);
    return values.map((lambda) => {
      for (let i = 0; i < m; i++)
        for (let j = 0; j < m; j++) {
          const at = 4 * i * m + 2 * j;
          const re = H[2 * (i * m + j)];
          const im = H[2 * (i * m + j) + 1];
          M[at] = (i === j ? 1 : 0) + lambda * (re * s[2 * j] - im * s[2 * j + 1]);
          M[at + 1] = lambda * (re * s[2 * j + 1] + im * s[2 * j]);
          M[at + 2 * m] = re;
          M[at + 2 * m + 1] = im;
        }
      solve(M, 4 * m, m);
      return right(M, m);
    });
  }

  // s (1 + 1/n sum lambda G_jj) = 1 by Newton's method in log s, from that of the node before.
  function settled(H, start, modes, counts) {
    const m = counts.length;
    const n = 2 * m + 2;
    const s = Float64Array.from(start);
    for (let step = 0; ; step++) {
      const G = responses(H, s, modes.values, m);
      const { M, size } = linearized(G, s, modes, counts);
      if (size < 1e-10 || step === 20) return { s, G, residual: size };
      solve(M, n, m);
      let longest = 0;
      for (let j = 0; j < m; j++) longest = Math.max(longest, Math.hypot(M[j * n + 2 * m], M[j * n + 2 * m + 1]));
      const shorter = Math.min(1, 0.5 / longest);
      for (let j = 0; j < m; j++) times(s, 2 * j, 1 - shorter * M[j * n + 2 * m], -shorter * M[j * n + 2 * m + 1]);
    }
  }

  // [slope, residual] of that equation, slopes in log s.
  function linearized(G, s, { values, numbers }, counts) {
    const m = counts.length;
    const n = 2 * m + 2;
    const M = new Float64Array(m * n);
    let size = 0;
    for (let j = 0; j < m; j++) {
      let re = 1;
      let im = 0;
      for (let l = 0; l < m; l++) {
        const at = 2 * (j * m + l);
        const to = j * n + 2 * l;
        for (let k = 0; k < values.length; k++) {
          const share = (numbers[k] * values[k]) / counts[j];
          const a = G[k][at];
          const b = G[k][at + 1];
          M[to] -= share * values[k] * (a * a - b * b);
          M[to + 1] -= 2 * share * values[k] * a * b;
          if (j !== l) continue;
          re += share * a;
          im += share * b;
        }
        times(M, to, s[2 * l], s[2 * l + 1]);
        times(M, to, s[2 * j], s[2 * j + 1]);
      }
      const own = s[2 * j] * re - s[2 * j + 1] * im;
      const turned = s[2 * j] * im + s[2 * j + 1] * re;
      M[j * n + 2 * j] += own;
      M[j * n + 2 * j + 1] += turned;
      M[j * n + 2 * m] = own - 1;
      M[j * n + 2 * m + 1] = turned;
      size = Math.max(size, Math.hypot(own - 1, turned));
    }
    return { M, size };
  }

  // 1 - G lambda s, the error of mode k at every agent.
  function left(G, lambda, s, m) {
    const r = new Float64Array(2 * m);
    for (let i = 0; i < m; i++) {
      r[2 * i] = 1;
      for (let j = 0; j < m; j++) {
        const at = 2 * (i * m + j);
        r[2 * i] -= lambda * (G[at] * s[2 * j] - G[at + 1] * s[2 * j + 1]);
        r[2 * i + 1] -= lambda * (G[at] * s[2 * j + 1] + G[at + 1] * s[2 * j]);
      }
    }
    return r;
  }

  // --- rounds ----------------------------------------------------------------------------------

  const square = (list) => list.reduce((total, each) => total + each * each, 0);

  // Losses (round, agent): bias, sampling, and label noise of variance one. W must be symmetric.
  function losses(question, modes, counts, { shifts, driven }) {
    const [m, Z, K] = [counts.length, shifts.length, modes.values.length];
    const points = new Array(Z);
    let [s, worst] = [Float64Array.from(range(2 * m), (k) => (k % 2 ? 0 : 1)), 0];
    for (let z = Z - 1; z >= 0; z--) {
      const found = settled(transfer(question, shifts[z]), s, modes, counts);
      const errors = found.G.map((G, k) => left(G, modes.values[k], found.s, m));
      points[z] = { ...found, errors };
      s = found.s;
      worst = Math.max(worst, found.residual);
    }
    const bias = driven.map((w) => range(m).map((i) => 0.5 * square(range(K).map((k) => {
      let mean = 0;
      for (let z = 0; z < Z; z++)
        mean += 2 * (w[2 * z] * points[z].errors[k][2 * i] - w[2 * z + 1] * points[z].errors[k][2 * i + 1]);
      return Math.sqrt(modes.power[k]) * mean;
    }))));
    return { bias, ...spread(points, modes, counts, driven), residual: worst };
  }

  // What samples and their noise add, over all pairs of nodes z, z' and z, conj z'.
  function spread(points, modes, counts, driven) {
    const m = counts.length;
    const added = new Float64Array(2 * driven.length * m);
    const rows = points.map((point) => scaled(point, modes, m));
    const weights = points.map((_, z) => Float64Array.from(driven.flatMap((w) => [w[2 * z], w[2 * z + 1]])));
    const sums = new Float64Array(4 * rowsOf(m));
    const M = new Float64Array(m * (2 * m + 4));
    const [plain, mirrored] = [new Float64Array(4 * m), new Float64Array(4 * m)];
    for (let z = 0; z < points.length; z++) {
      const halves = new Float64Array(4 * driven.length * m);
      for (let w = z; w < points.length; w++) {
        multiply(rows[z], rows[w], modes.values.length, sums);
        amplify(plain, 1, rows[z].s, rows[w].s, counts, sums, M);
        amplify(mirrored, -1, rows[z].s, rows[w].s, counts, sums, M);
        add(halves, plain, mirrored, weights[w], z === w ? 2 : 4, m);
      }
      close(added, halves, weights[z], m);
    }
    const part = (which) => driven.map((_, t) => range(m).map((j) => added[2 * (t * m + j) + which] / 2));
    return { sampling: part(0), noise: part(1) };
  }

  const rowsOf = (m) => (m * (m + 1)) / 2 + m;

  // lambda G_jl (j <= l) and the errors, weighted so that their products sum over modes.
  function scaled({ s, G, errors }, { values, numbers, power }, m) {
    const K = values.length;
    const [re, im] = [new Float64Array(rowsOf(m) * K), new Float64Array(rowsOf(m) * K)];
    let row = 0;
    for (let j = 0; j < m; j++)
      for (let l = j; l < m; l++, row++)
        for (let k = 0; k < K; k++) {
          const share = Math.sqrt(numbers[k]) * values[k];
          re[row * K + k] = share * G[k][2 * (j * m + l)];
          im[row * K + k] = share * G[k][2 * (j * m + l) + 1];
        }
    for (let j = 0; j < m; j++, row++)
      for (let k = 0; k < K; k++) {
        re[row * K + k] = Math.sqrt(power[k]) * errors[k][2 * j];
        im[row * K + k] = Math.sqrt(power[k]) * errors[k][2 * j + 1];
      }
    return { s, re, im };
  }

  // Of every row of a and b: products of real parts, imaginary ones, imaginary with real, real with imaginary.
  function multiply(a, b, K, sums) {
    for (let from = 0, at = 0; from < a.re.length; from += K, at += 4) {
      let rr = 0;
      let ii = 0;
      let ir = 0;
      let ri = 0;
      for (let k = from; k < from + K; k++) {
        rr += a.re[k] * b.re[k];
        ii += a.im[k] * b.im[k];
        ir += a.im[k] * b.re[k];
        ri += a.re[k] * b.im[k];
      }
      sums[at] = rr;
      sums[at + 1] = ii;
      sums[at + 2] = ir;
      sums[at + 3] = ri;
    }
  }

  // x = (I - N)^-1 [a, 1] - [a, 1] at a pair; `sign` -1 takes the conjugate of the second node.
  function amplify(x, sign, s, r, counts, sums, M) {
    const m = counts.length;
    const n = 2 * m + 4;
    let at = 0;
    for (let j = 0; j < m; j++)
      for (let l = j; l < m; l++, at += 4) {
        const re = sums[at] - sign * sums[at + 1];
        const im = sums[at + 2] + sign * sums[at + 3];
        put(M, j * n + 2 * l, s, r, l, re, im, sign, counts);
        if (l > j) put(M, l * n + 2 * j, s, r, j, re, im, sign, counts);
      }
    for (let j = 0; j < m; j++, at += 4) {
      M[j * n + 2 * j] += 1;
      x[4 * j] = M[j * n + 2 * m] = sums[at] - sign * sums[at + 1];
      x[4 * j + 1] = M[j * n + 2 * m + 1] = sums[at + 2] + sign * sums[at + 3];
      x[4 * j + 2] = M[j * n + 2 * m + 2] = 1;
      x[4 * j + 3] = M[j * n + 2 * m + 3] = 0;
    }
    solve(M, n, m);
    for (let j = 0; j < m; j++) for (let k = 0; k < 4; k++) x[4 * j + k] = M[j * n + 2 * m + k] - x[4 * j + k];
  }

  // -N_jl s_l s'_l / n_l
  function put(M, at, s, r, l, re, im, sign, counts) {
    const d = sign * r[2 * l + 1];
    const share = (s[2 * l] * r[2 * l] - s[2 * l + 1] * d) / counts[l];
    const turned = (s[2 * l] * d + s[2 * l + 1] * r[2 * l]) / counts[l];
    M[at] = im * turned - re * share;
    M[at + 1] = -re * turned - im * share;
  }

  // Adds w_tw x + conj w_tw x' of the node w, x and x' without `start`, to every round of halves.
  function add(halves, x, mirrored, w, many, m) {
    for (let j = 0; j < 2 * m; j++) {
      const a = many * (x[2 * j] + mirrored[2 * j]);
      const b = many * (x[2 * j + 1] - mirrored[2 * j + 1]);
      const c = many * (x[2 * j + 1] + mirrored[2 * j + 1]);
      const d = many * (x[2 * j] - mirrored[2 * j]);
      for (let t = 0, to = 2 * j; t < w.length; t += 2, to += 4 * m) {
        halves[to] += w[t] * a - w[t + 1] * b;
        halves[to + 1] += w[t] * c + w[t + 1] * d;
      }
    }
  }

  // Adds 2 Re w_tz times the halves of node z.
  function close(added, halves, w, m) {
    for (let t = 0, at = 0; t < w.length; t += 2)
      for (let j = 0; j < 2 * m; j++, at++) added[at] += w[t] * halves[2 * at] - w[t + 1] * halves[2 * at + 1];
  }

  return { circle, losses };
})();

// Eigenvalues 2^-j, each of so many modes that the k-th mode has about k^-4/3, and a target in them.
explorable.modes = (() => {
  const octaves = dynamics.range(10);
  const power = octaves.map((j) => 2 ** (-j / 2));
  const whole = dynamics.sum(power, (each) => each);
  return {
    values: octaves.map((j) => 2 ** -j),
    numbers: octaves.map((j) => Math.ceil(2 ** (0.75 * j))),
    power: power.map((each) => (2 * each) / whole),
  };
})();

explorable.LAST = 100;
explorable.BEFORE = 2; // rounds before the first: nothing happens in them where rounds are stable
explorable.times = [-2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 87, 100];
explorable.around = explorable.equivalents.circle(explorable.LAST, explorable.times);

explorable.counts = (agents, points, unequal) =>
  dynamics.range(agents).map((i) => Math.max(1, Math.round(points * 4 ** (unequal * ((2 * i) / (agents - 1) - 1)))));

// All but the noise's own size is kept until something else changes.
explorable.parts = (() => {
  let kept = "";
  let parts = null;
  return (question, counts) => {
    const asked = JSON.stringify([question, counts]);
    if (asked !== kept) parts = explorable.equivalents.losses(question, explorable.modes, counts, explorable.around);
    kept = asked;
    return parts;
  };
})();

explorable.compute = ({ agents, topology, method, step, points, unequal, noise }) => {
  const { range, sum } = dynamics;
  const links = topology === "none" ? [] : dynamics.GRAPHS[topology](agents);
  const W = dynamics.metropolis(links, agents);
  const counts = explorable.counts(agents, points, unequal);
  const parts = explorable.parts({ W, eta: step, method }, counts);
  const all = { bias: parts.bias, sampling: parts.sampling, noise: parts.noise.map((row) => row.map((e) => e * noise ** 2)) };
  const total = explorable.times.map((_, t) => range(agents).map((i) => sum(Object.values(all), (part) => part[t][i])));
  const before = Math.max(...total.slice(0, explorable.BEFORE).flat().map(Math.abs));
  const unstable = !(before < 1e-6 && parts.residual < 1e-8);
  const times = explorable.times.slice(explorable.BEFORE + 1);
  const seen = unstable ? [] : total.slice(explorable.BEFORE + 1);
  const mean = (rows) => rows.map((row) => sum(row, (each) => each) / agents);
  const means = mean(seen);
  const best = means.indexOf(Math.min(...means));
  const line = (rows) => ({ x: unstable ? [] : times, y: unstable ? [] : mean(rows.slice(explorable.BEFORE + 1)).map(explorable.shown) });
  return {
    sources: {
      curves: {
        x: seen.length ? range(agents).map(() => times) : [],
        y: seen.length ? range(agents).map((i) => seen.map((row) => explorable.shown(row[i]))) : [],
        colour: seen.length ? explorable.agentColours(agents) : [],
      },
      bias: line(all.bias), sampling: line(all.sampling), noise: line(all.noise),
    },
    ranges: unstable ? {} : {
      losses_y: explorable.decades(seen.flat(), 1e-4),
      parts_y: explorable.decades(Object.values(all).flatMap((part) => mean(part.slice(explorable.BEFORE + 1))), 1e-4),
    },
    readouts: {
      counts: counts.join(", "),
      best: unstable ? "–" : times[best],
      least: unstable ? "–" : means[best],
      last: unstable ? "–" : means.at(-1),
      ...Object.fromEntries(Object.entries(all).map(([name, part]) => [name, unstable ? "–" : mean(part).at(-1)])),
      residual: parts.residual,
    },
    said: unstable
      ? "Unstable: errors grow from round to round, there is no curve."
      : `Stable: the mean loss is least in round ${times[best]}, at ${means[best].toPrecision(3)}.`,
    unstable,
    times, W, counts, total: seen, parts: all,
  };
};
