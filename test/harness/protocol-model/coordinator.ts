/** A coordinator of the model: one election or one swap at a time, each step licensed by its own CAS. */
import { EMPTY_HEAD, type Head, type Term } from "../../../src/model/ids.ts";
import {
  type Answer,
  type Candidate,
  type Election,
  judge,
  type Slot,
  slotsToFence,
  type Verdict,
} from "../../../src/protocol/election.ts";
import {
  deletable,
  deletedDocument,
  type Freeze,
  jointDocument,
  nextStep,
  nextTerm,
  type Observed,
  type ObservedReplica,
  resultDocument,
  type StoredShard,
  type Swap,
  turnedRound,
} from "../../../src/protocol/ensemble-change.ts";
import { type Member, NO_REPLICA, type Outcome } from "../../../src/protocol/replica-state.ts";
import type { World } from "./world.ts";

type Phase = "idle" | "fencing" | "leading";

export class Coordinator {
  readonly #world: World;
  readonly #name: string;
  #version = -1;
  #doc: StoredShard;
  #phase: Phase = "idle";
  /** Grows with each election and crash: answers to earlier ones are not taken. */
  #life = 0;
  #answers = new Map<string, Answer>();
  #failedLeaders = new Set<bigint>();
  #patience = 0;
  #swap: Swap | undefined;
  #addedHead: Head = EMPTY_HEAD;
  #observing = false;
  #freeze: Freeze | undefined;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#name = name;
    this.#doc = world.store.doc;
    this.#read();
  }

  crash(): void {
    this.#read();
    this.#forgetSwap();
    this.#failedLeaders.clear();
  }

  /** Does what is due. */
  tick(): void {
    this.#patience += 1;
    if (this.#phase === "fencing") {
      if (this.#patience > 12) this.#silentFail();
      this.#judge();
    } else if (this.#phase === "leading") {
      if (this.#patience > 30 && this.#world.oneIn(4)) this.#elect(nextTerm(this.#doc));
    } else {
      this.#read();
      if (this.#doc.leader === undefined) {
        if (this.#patience > 20 || this.#world.oneIn(20) || this.#doc.term < 0) this.#elect(nextTerm(this.#doc));
      } else if (this.#world.oneIn(60)) this.#elect(nextTerm(this.#doc));
      else this.#steady(this.#doc.leader);
    }
  }

  /** Once a minute, and to a server that comes back. */
  handshake(server: string): void {
    const request = { stamp: this.#world.newStamp(), confirmedStamp: this.#confirmedStamp(server) };
    const confirmed = this.#world.confirmedStamps;
    const reply = () => confirmed.set(server, Math.max(request.stamp, confirmed.get(server) ?? 0));
    this.#world.call(server, (called) => called.handshake(request, reply));
  }

  #confirmedStamp(server: string): number {
    return this.#world.confirmedStamps.get(server) ?? 0;
  }

  // --- elections --------------------------------------------------------------------------------------------------

  #elect(next: StoredShard): void {
    const hidden = this.#world.has("ensemble stored with the result") && next.formerMembers.length > 0;
    const stored = hidden ? { ...next, members: next.formerMembers, formerMembers: [] } : next;
    if (!this.#cas(stored, true)) return;
    if (hidden) this.#doc = next;
    this.#world.tally.elections += 1;
    this.#phase = "fencing";
    this.#patience = 0;
    this.#life += 1;
    this.#answers = new Map();
    const life = this.#life;
    const shown = () => this.#doc.members.map(({ server, replicaId }) => `${server}${replicaId}`).join(" ");
    this.#world.log(() => `${this.#name} elects T${next.term}: ${shown()} (${next.formerMembers.length} former)`);
    for (const slot of slotsToFence(this.#doc))
      this.#fence(slot, (answer) => this.#answered(life, slot.server, answer));
  }

  #fence(slot: Slot, answered: (outcome: Outcome<"NewTerm">) => void): void {
    const { term } = this.#doc;
    const { replicaId, countedTerm } = slot;
    const confirmedStamp = this.#confirmedStamp(slot.server);
    this.#world.call(slot.server, (server) => {
      const request = { term, replicaId, countedTerm, adopt: false, freshId: this.#world.newId() };
      const outcome = server.newTerm(request, confirmedStamp);
      this.#world.send(() => answered(outcome));
    });
  }

  #answered(life: number, server: string, outcome: Outcome<"NewTerm">): void {
    if (life !== this.#life) return;
    if (this.#phase === "fencing") {
      this.#answers.set(server, this.#answer(outcome));
      if (this.#world.oneIn(2)) this.#judge();
    }
  }

  #answer(outcome: Outcome<"NewTerm">): Answer {
    const { id, mintedTerm, head, promise } = outcome.next;
    if (!outcome.accepted) {
      const above = outcome.reason === "INVALID_TERM" && promise > this.#doc.term;
      return above ? { kind: "promised", promise } : { kind: "failed", why: outcome.message };
    }
    return { kind: "fenced", replicaId: id, mintedTerm, head, ended: outcome.answer.ended };
  }

  #silentFail(): void {
    for (const { server } of slotsToFence(this.#doc)) {
      if (!this.#answers.has(server)) this.#answers.set(server, { kind: "failed", why: "does not answer" });
    }
  }

  #judge(): void {
    const termInStore = this.#world.store.doc.term;
    const election = { stored: this.#doc, termInStore, answers: this.#answers, failedLeaders: this.#failedLeaders };
    this.#act(this.#judged(election));
  }

  #judged(election: Election): Verdict {
    const { stored, answers } = election;
    if (this.#world.has("votes by address")) {
      const listed = new Map(slotsToFence(stored).map(({ server, replicaId }) => [server, replicaId]));
      const named = [...answers].map(([server, answer]): [string, Answer] => {
        const replicaId = listed.get(server) || (answer.kind === "fenced" ? answer.replicaId : undefined);
        return [server, answer.kind === "fenced" ? { ...answer, replicaId, ended: "" } : answer];
      });
      return judge({ ...election, answers: new Map(named) });
    }
    const isNew = (server: string) => stored.members.some((slot) => slot.server === server);
    const masked = [...answers].map(([server, answer]): [string, Answer] => [
      server,
      answer.kind === "fenced" && !isNew(server) ? { ...answer, head: EMPTY_HEAD } : answer,
    ]);
    if (this.#world.has("best head of the new ensemble only")) return judge({ ...election, answers: new Map(masked) });
    if (this.#world.has("majority of the union") && stored.formerMembers.length > 0) {
      const members = slotsToFence(stored);
      const verdict = judge({
        ...election,
        answers: new Map(masked),
        stored: { ...stored, members, formerMembers: [] },
      });
      if (verdict.kind !== "elect") return verdict;
      const candidates = verdict.candidates.filter(({ server }) => isNew(server));
      const followers = verdict.followers.filter(({ server }) => isNew(server));
      if (candidates.length === 0) return { kind: "next-term", why: "nobody" };
      return { ...verdict, candidates, followers, members: stored.members, formerMembers: stored.formerMembers };
    }
    return judge(election);
  }

  #act(verdict: Verdict): void {
    if (verdict.kind === "elect") this.#lead(verdict);
    else if (verdict.kind === "next-term" && this.#doc.formerMembers.length > 0 && this.#world.oneIn(2))
      this.#turnRound();
    else if (verdict.kind === "next-term") this.#elect(nextTerm(this.#doc));
    else if (verdict.kind === "turn-round") this.#turnRound();
    else if (verdict.kind === "superseded") this.#read();
    else if (verdict.kind !== "wait") this.#world.fail(`${this.#name} finds ${JSON.stringify(verdict)}`);
  }

  #turnRound(): void {
    this.#world.tally.turned += 1;
    const round = turnedRound(this.#doc);
    this.#elect(this.#world.has("change dropped, not turned round") ? { ...round, formerMembers: [] } : round);
  }

  #lead({ candidates, followers, members, formerMembers }: Verdict & { kind: "elect" }): void {
    const able = candidates.filter(({ replicaId }) => !this.#failedLeaders.has(replicaId));
    const leader = this.#world.pick(able.length > 0 ? able : candidates)!;
    const life = this.#life;
    const next = { ...this.#doc, members, formerMembers };
    const late = this.#world.has("ensemble stored with the result") || this.#world.has("ids stored with the result");
    if (late) this.#doc = next;
    else if (!this.#cas(next, false)) return;
    this.#phase = "leading";
    this.#patience = 0;
    const others = followers.filter(({ server }) => server !== leader.server);
    const request = {
      term: next.term,
      replicaId: leader.replicaId,
      expectedHead: leader.head,
      replicationFactor: members.length,
      members: members.map(({ server, replicaId }) => ({ server, replicaId })),
      followers: others,
    };
    const reply = (led: boolean) => (led ? this.#led(life, leader) : this.#notLed(life, leader));
    this.#world.call(leader.server, (server) => server.becomeLeader(request, others, reply));
  }

  #led(life: number, { server, replicaId }: Candidate): void {
    if (life !== this.#life || this.#phase !== "leading") return;
    const result = resultDocument(this.#doc, { server, replicaId });
    if (!this.#cas(result, false)) return;
    this.#failedLeaders.clear();
    this.#phase = "idle";
    this.#patience = 0;
  }

  #notLed(life: number, { replicaId }: Candidate): void {
    if (life !== this.#life || this.#phase !== "leading") return;
    this.#failedLeaders.add(replicaId);
    this.#elect(nextTerm(this.#doc));
  }

  // --- a steady shard ---------------------------------------------------------------------------------------------

  #steady(leader: Member): void {
    if (this.#world.oneIn(3)) this.#attachMissing(leader);
    if (this.#world.oneIn(3)) this.#delete();
    if (!this.#world.faults.swaps) return;
    this.#swap ??= this.#wanted();
    if (this.#swap !== undefined) this.#swapStep(leader, this.#swap);
  }

  /** NewTerm of the same term, then AddFollower, for members that the leader does not replicate to. */
  #attachMissing(leader: Member): void {
    const leading = this.#world.server(leader.server).replica;
    const attached = new Set(leading.cursors.map(({ replicaId }) => replicaId));
    const missing = this.#doc.members.filter(
      ({ replicaId }) => replicaId !== NO_REPLICA && replicaId !== leader.replicaId && !attached.has(replicaId),
    );
    const slot = this.#world.pick(missing);
    if (slot === undefined) return;
    const { term } = this.#doc;
    this.#fence(slot, (outcome) => {
      if (!outcome.accepted || outcome.answer.ended !== "" || outcome.next.id !== slot.replicaId) return;
      // Added ids are counted in this term: stored before AddFollower.
      if (this.#doc.term !== term || this.#phase !== "idle") return;
      const members = this.#doc.members.map((other) =>
        other.replicaId === slot.replicaId ? { ...other, countedTerm: term } : other,
      );
      if (this.#cas({ ...this.#doc, members }, false)) this.#addFollower(leader, slot, outcome.next.head, false);
    });
  }

  #addFollower(leader: Member, { server, replicaId }: Member, head: Head, observer: boolean): void {
    const request = { term: this.#doc.term, byId: true, head, server, replicaId, observer, targetShard: 0 };
    const reply = () => {
      if (observer && this.#swap?.added.replicaId === replicaId) this.#observing = true;
    };
    this.#world.call(leader.server, (leading) => leading.addFollower(request, { server, replicaId, head }, reply));
  }

  #delete(): void {
    const copy = this.#world.pick(deletable(this.#doc, this.#observed()));
    if (copy === undefined) return;
    const { term } = this.#doc;
    const reply = () => {
      if (this.#phase !== "idle") return;
      this.#read();
      if (this.#doc.pendingDeletes.length > 0) this.#cas(deletedDocument(this.#doc, copy), false);
    };
    this.#world.tally.deletes += 1;
    this.#world.call(copy.server, (server) => server.deleteShard({ term, replicaId: copy.replicaId }, reply));
  }

  #wanted(): Swap | undefined {
    const { members } = this.#doc;
    const ended = members.find(({ server, replicaId }) => {
      const { id } = this.#world.server(server).replica;
      return replicaId !== NO_REPLICA && id !== replicaId;
    });
    const added = { replicaId: NO_REPLICA };
    if (ended !== undefined && this.#world.oneIn(2))
      return { removed: ended, added: { ...added, server: ended.server } };
    const spare = this.#world.servers.filter(({ name }) => !members.some(({ server }) => server === name));
    const removed = ended ?? this.#world.pick(members)!;
    return { removed, added: { ...added, server: this.#world.pick(spare)!.name } };
  }

  #swapStep(leader: Member, swap: Swap): void {
    const { term } = this.#doc;
    const step = nextStep(this.#doc, swap, this.#observed(), this.#world.nowMs());
    if (step.due === "prepare") {
      const slot = { ...swap.added, countedTerm: -1 };
      this.#fence(slot, (outcome) => {
        if (!outcome.accepted || this.#swap !== swap || this.#doc.term !== term) return;
        this.#swap = { ...swap, added: { server: swap.added.server, replicaId: outcome.next.id } };
        this.#addedHead = outcome.next.head;
      });
    } else if ((step.due === "freeze" || step.due === "catch-up") && this.#world.faults.hasty) this.#storeJoint(swap);
    else if (step.due === "observe") this.#addFollower(leader, swap.added, this.#addedHead, true);
    else if (step.due === "freeze") this.#askFreeze(leader, term);
    else if (step.due === "store-joint") this.#storeJoint(swap);
    else if (step.due === "thaw") {
      this.#world.server(leader.server).freeze({ term, frozen: false });
      this.#freeze = undefined;
    } else if (step.due === "forget" || this.#world.oneIn(60)) this.#forgetSwap();
  }

  #storeJoint(swap: Swap): void {
    this.#world.tally.swaps += 1;
    this.#elect(jointDocument(this.#doc, swap));
    this.#forgetSwap();
  }

  #askFreeze(leader: Member, term: Term): void {
    const now = this.#world.nowMs();
    const headOffset = this.#world.server(leader.server).freeze({ term, frozen: true });
    if (headOffset === undefined) return;
    this.#freeze = { firstAskedMs: this.#freeze?.firstAskedMs ?? now, lastAskedMs: now, headOffset };
  }

  #forgetSwap(): void {
    this.#swap = undefined;
    this.#observing = false;
    this.#freeze = undefined;
  }

  #observed(): Observed {
    const replicas = this.#world.servers.map(({ name, replica }): [string, ObservedReplica] => {
      const { id: replicaId, status, promise, head, applied, verified } = replica;
      const verifiedOffset = Math.min(verified, head.offset);
      return [name, { replicaId, status, promise, head, commitOffset: applied, verifiedOffset }];
    });
    return { replicas: new Map(replicas), observing: this.#observing, freeze: this.#freeze };
  }

  // --- the store --------------------------------------------------------------------------------------------------

  /** Whether this process knows that its CAS won. An unknown outcome licenses nothing. */
  #cas(next: StoredShard, election: boolean): boolean {
    const { store } = this.#world;
    const won = this.#version === store.version;
    if (won) this.#world.store = { version: store.version + 1, doc: next };
    if (this.#world.faults.lostCas && this.#world.oneIn(4)) {
      this.#read();
      return election && this.#world.has("lost CAS reply taken for success") && this.#doc.term === next.term;
    }
    if (!won) {
      this.#read();
      return false;
    }
    this.#doc = next;
    this.#version += 1;
    return true;
  }

  #read(): void {
    const { version, doc } = this.#world.store;
    if (this.#doc.term !== doc.term) {
      this.#observing = false;
      this.#freeze = undefined;
    }
    if (this.#phase !== "idle") {
      this.#life += 1;
      this.#patience = 0;
    }
    this.#version = version;
    this.#doc = doc;
    this.#phase = "idle";
  }
}
