// What is placed so far on one comparison.

const LETTERS = "ABCDEFGHI";

class Ranking {
  /** `ids` in the order shown; `tiers` as in a draft: the ids at index i have rank i + 1. */
  constructor(ids, tiers = []) {
    this.ids = ids;
    this.ranks = new Map();
    tiers.forEach((tier, index) => tier.filter((id) => ids.includes(id)).forEach((id) => this.ranks.set(id, index + 1)));
  }

  get placed() {
    return this.ranks.size;
  }

  get complete() {
    return this.placed === this.ids.length;
  }

  rank(id) {
    return this.ranks.get(id) ?? null;
  }

  /** Give a rank; the same rank again takes it away. */
  toggle(id, rank) {
    const same = this.ranks.get(id) === rank;
    this.ranks.delete(id);
    if (!same) this.ranks.set(id, rank);
  }

  /** Best tier first, each rank a tier, ranks that nobody has as empty tiers: what a draft keeps. */
  draftTiers() {
    const tiers = Array.from({ length: Math.max(0, ...this.ranks.values()) }, () => []);
    for (const [id, rank] of this.ranks) tiers[rank - 1].push(id);
    return tiers;
  }

  /** Best tier first, none empty: what is submitted. */
  tiers() {
    return this.draftTiers().filter((tier) => tier.length);
  }

  letter(id) {
    return LETTERS[this.ids.indexOf(id)];
  }

  /** "B > D = A > C". */
  echo() {
    return this.tiers().map((tier) => tier.map((id) => this.letter(id)).join(" = ")).join(" > ");
  }

  /** The next response without a rank after `index`, going round; `index` itself if there is none. */
  nextOpen(index) {
    const round = this.ids.map((_, step) => (index + 1 + step) % this.ids.length);
    return round.find((place) => this.rank(this.ids[place]) === null) ?? index;
  }
}
