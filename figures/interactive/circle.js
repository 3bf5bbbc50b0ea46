// The task of two pages: every agent owns four points on a circle, and a kernel of five modes fits them.
// Heterogeneity moves an agent's points from all over the circle to an arc of its own, and shifts its targets.
const circle = {
  own: 4,

  features(u) {
    return [1, Math.SQRT1_2 * Math.cos(u), Math.SQRT1_2 * Math.sin(u), 0.5 * Math.cos(2 * u), 0.5 * Math.sin(2 * u)];
  },

  // Points that are `moved`, [point, agent] each, keep their angle and target.
  problem(agents, heterogeneity, moved = []) {
    const owner = dynamics.range(agents * this.own).map((a) => Math.floor(a / this.own));
    const golden = (Math.sqrt(5) - 1) / 2;
    const angle = owner.map((i, a) => {
      const spread = (a * golden) % 1;
      const arc = (i + ((a % this.own) + 0.5) / this.own) / agents;
      return 2 * Math.PI * ((1 - heterogeneity) * spread + heterogeneity * arc);
    });
    const features = angle.map(this.features);
    const shift = (i) => 0.5 * heterogeneity * Math.sin(2.4 * (i + 1));
    const truth = (u) => Math.sin(u) + 0.5 * Math.cos(2 * u) + 0.3 * Math.cos(5 * u);
    const targets = angle.map((u, a) => truth(u) + shift(owner[a]));
    for (const [point, agent] of moved) owner[point] = agent;
    return { ...dynamics.problem({ features, targets, owner, agents }), angle };
  },
};
