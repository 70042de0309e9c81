/**
 * What must hold for one shard of a simulated cluster, checked as its replicas change: at each append, promise, lead
 * mark, ack and applied entry, at the cost of the change and not of the cluster.
 *
 *     NoLogDivergence          entries with one offset and term are the same, with all entries before them
 *     NoLossOfConfirmedWrite   nothing else is ever committed at an offset where something was
 *     DurableOnMajority        what is committed is durable on a majority of the leader's members, behind an entry of
 *                              its term
 *     LeaderCompleteness       a leader has everything that leaders of lower terms have committed
 *     LegalLeader              a term has one leader, once, and a member of the stored ensemble
 *     BothMajorities           most of the stored ensemble have promised the term; in a change, of the former one too
 *     Monotonic                promise, head and applied of one replica id do not go back, over restarts too
 *     FenceIsABarrier          the head that NewTerm answers is final: nothing of an earlier term becomes durable behind it
 *     AckIsVerified            an acked entry is durable, and the leader's own
 *     StateIsOne               replicas with one applied offset have one state; version ids rise
 *
 * Source: Oxia's TLA+ invariants; safety.md §1 to §6.
 */
import type { Head, LogEntry, Offset, ReplicaId, Term } from "../../src/model/ids.ts";
import type { BecomeLeaderRequest, PeerHead } from "../../src/model/peer-messages.ts";
import type { AppliedState, ReplicaLog } from "../../src/ports.ts";
import { NO_REPLICA, type Replica as State } from "../../src/protocol/replica-state.ts";
import { describeEntry, EntryHistory, Line, type Made } from "./entry-history.ts";
import { illegalities } from "./legal-leader.ts";
import { type Applied, type Leadership, newPlace, type Place, type ReplicaTrace } from "./shard-trace.ts";
import { type StoredEnsemble, type StoredSlot, Violation } from "./violation.ts";

export class ShardInvariants {
  readonly shard: number;
  stored: StoredEnsemble = { term: -1, leader: undefined, members: [], formerMembers: [] };
  readonly #fail: (violation: Violation) => void;
  readonly #nowMs: () => number;
  /** The highest term whose leader serves or has served, and since when. */
  #serving = { term: -1, sinceMs: 0 };
  readonly #history = new EntryHistory();
  readonly #places = new Map<string, Place>();
  readonly #replicas = new Map<ReplicaId, ReplicaTrace>();
  /** In the order of their terms. */
  #leaderships: Leadership[] = [];
  readonly #committed: Made[] = [];
  /** The term of the leader that committed an entry first. */
  readonly #committedIn: Term[] = [];
  readonly #states: (Applied | undefined)[] = [];

  constructor(shard: number, fail: (violation: Violation) => void, nowMs: () => number = () => 0) {
    this.shard = shard;
    this.#fail = fail;
    this.#nowMs = nowMs;
  }

  // --- what others ask ------------------------------------------------------------------------------------------------

  get committed(): number {
    return this.#committed.length;
  }

  /** When the last leader began to serve, in true time. */
  get ledSinceMs(): number {
    return this.#serving.sinceMs;
  }

  get terms(): number {
    return this.#leaderships.length;
  }

  replicas(): Iterable<ReplicaTrace> {
    return this.#replicas.values();
  }

  replica(id: ReplicaId): ReplicaTrace | undefined {
    return this.#replicas.get(id);
  }

  /** The id that lives at a server. */
  livingAt(server: string): ReplicaId | undefined {
    return this.#place(server).living?.id;
  }

  /** Who has led a term. */
  leaderOf(term: Term): string | undefined {
    return this.#leadershipOf(term)?.server;
  }

  /** A client was told that its write got this version. */
  clientAcked(versionId: number): void {
    const last = this.#states[this.#states.length - 1];
    if (last === undefined || last.versionId < versionId) {
      this.#violated(
        "AckIsCommitted",
        `a client was told version ${versionId}, the last one applied is ${last?.versionId}`,
      );
    }
  }

  // --- a life begins --------------------------------------------------------------------------------------------------

  /** The server's log was opened and has this replica. `isOld`: see `created`. */
  opened(server: string, life: number, log: ReplicaLog, isOld = false): void {
    const place = this.#place(server);
    place.life = life;
    place.asked.clear();
    const alive = log.ended === "" && log.damage === undefined;
    const known = this.#replicas.get(log.replicaId);
    if (!alive && known !== undefined && place.living === known) this.#checkMayEnd(place, known, log.ended);
    const trace = alive ? known : undefined;
    place.living = trace;
    place.applied = -1;
    if (!alive) return;
    if (trace === undefined) {
      // its making was not answered before the crash
      this.#mint(place, log, isOld);
      return;
    }
    this.#checkReopened(place, trace, log);
    place.promise = trace.gone ? log.promise : Math.max(place.promise, log.promise);
    trace.line = Line.upTo(this.#found(log.head));
    place.changing = false;
  }

  #checkReopened(place: Place, trace: ReplicaTrace, { promise, head }: ReplicaLog): void {
    if (trace.gone) return;
    if (promise < trace.promised) {
      this.#violated(
        "Monotonic",
        `${place.server} has promised ${promise} after a start, and ${trace.promised} before`,
      );
    }
    const durable = trace.line.head;
    if (place.changing || durable === undefined) return;
    if (Line.upTo(this.#found(head)).at(durable.offset) !== durable) {
      const what = `${place.server} starts with ${describeEntry(head)}, and had ${describeEntry(durable)} durable`;
      this.#violated("Monotonic", what);
    }
  }

  #found(head: Head): Made | undefined {
    if (head.offset < 0) return undefined;
    const made = this.#history.find(head);
    if (made === undefined) this.#violated("NoLogDivergence", `nobody has ever appended ${describeEntry(head)}`);
    return made;
  }

  #mint(place: Place, log: ReplicaLog, isOld: boolean): void {
    const line = Line.upTo(this.#found(log.head));
    const { replicaId: id, promise: promised } = log;
    const trace: ReplicaTrace = { server: place.server, id, line, before: [], promised, lost: isOld, gone: false };
    if (this.#replicas.has(log.replicaId)) {
      this.#violated("LegalEnsemble", `replica id ${log.replicaId} lives twice`);
    }
    this.#replicas.set(log.replicaId, trace);
    place.living = trace;
    place.promise = Math.max(place.promise, log.promise);
    place.applied = -1;
    place.deleting = false;
  }

  // --- the log --------------------------------------------------------------------------------------------------------

  /** `isOld`: the disk does not hold the stamp that its server has confirmed. All ids on it end once it hears that. */
  created(server: string, log: ReplicaLog, isOld = false): void {
    this.#mint(this.#place(server), log, isOld);
  }

  deleteAsked(server: string): void {
    this.#place(server).deleting = true;
  }

  ended(server: string, why: string): void {
    const place = this.#place(server);
    if (place.living !== undefined) this.#checkMayEnd(place, place.living, why);
    place.living = undefined;
  }

  /** Only deletion and faults of disks end an id. */
  #checkMayEnd({ server, deleting }: Place, { id, lost }: ReplicaTrace, why: string): void {
    if (!lost && !deleting) this.#violated("NoFalseDamage", `${id} at ${server} ends, whose disk is sound: ${why}`);
  }

  /** An append is asked for. Answers the entry, unless it does not follow what is there. */
  appending(server: string, entry: LogEntry): Made | undefined {
    const line = this.#place(server).living?.line;
    if (line === undefined || entry.offset > line.length) return undefined;
    line.cut(Math.max(entry.offset, line.durable));
    if (entry.offset !== line.length) return undefined;
    const made = this.#history.made(line.last, entry);
    this.#checkDivergence();
    line.push(made);
    const leadership = this.#leadershipOf(entry.term);
    if (leadership?.server === server) {
      if (leadership.made.size === 0) this.#checkOwnTermEntryDue(leadership);
      leadership.made.set(made.offset, made);
    }
    return made;
  }

  #checkOwnTermEntryDue({ server, term, members = [], attached }: Leadership): void {
    const needed = members.length >> 1;
    if (attached.size >= needed) return;
    const what = `${server} begins term ${term} with ${attached.size} followers, ${needed} are needed`;
    this.#violated("OwnTermEntryIsDue", what);
  }

  appended(server: string, made: Made, acceptedUnder: Term): void {
    const place = this.#place(server);
    const line = place.living?.line;
    if (acceptedUnder < place.promise || line === undefined || line.at(made.offset) !== made) {
      const what = `${server} appends ${describeEntry(made)} of term ${acceptedUnder} behind its promise ${place.promise}`;
      this.#violated("FenceIsABarrier", what);
      return;
    }
    line.appended(made);
    if (!made.refused) return;
    this.#history.stands(made);
    this.#checkDivergence();
  }

  dropped(server: string, made: Made): void {
    const line = this.#place(server).living?.line;
    if (line?.refused(made) === false) return;
    if (![...this.#replicas.values()].some((replica) => replica.line.at(made.offset) === made && replica.line !== line))
      made.refused = true;
    if (line?.at(made.offset) === made && line.durable <= made.offset) line.cut(made.offset);
  }

  promised(server: string, term: Term, head: Head): void {
    const place = this.#place(server);
    if (term < place.promise) this.#violated("Monotonic", `${server} promises ${term} after ${place.promise}`);
    place.promise = Math.max(place.promise, term);
    if (place.living !== undefined) place.living.promised = Math.max(place.living.promised, term);
    this.#checkHead(place, head, "its log");
  }

  changing(server: string): void {
    this.#place(server).changing = true;
  }

  notChanged(server: string): void {
    this.#place(server).changing = false;
  }

  truncated(server: string, head: Head): void {
    const place = this.#place(server);
    place.changing = false;
    const line = place.living?.line;
    if (line === undefined) return;
    if (head.offset < place.applied) {
      this.#violated("Monotonic", `${server} cuts back to ${head.offset}, and has applied ${place.applied}`);
    }
    line.cut(head.offset + 1);
    this.#checkHead(place, head, "a truncation");
  }

  installed(server: string, base: Head): void {
    const place = this.#place(server);
    place.changing = false;
    if (place.living !== undefined) place.living.line = Line.upTo(this.#found(base));
  }

  #checkHead(place: Place, head: Pick<PeerHead, "term" | "offset">, who: string): void {
    const durable = place.living?.line.head;
    if ((durable?.offset ?? -1) === head.offset && (durable?.term ?? -1) === head.term) return;
    const what = `${who} answers ${describeEntry(head)}, and ${describeEntry(durable)} is durable on ${place.server}`;
    this.#violated("FenceIsABarrier", what);
  }

  // --- calls ----------------------------------------------------------------------------------------------------------

  /** NewTerm has come. */
  newTermAsked(server: string, term: Term): void {
    if (term <= this.stored.term) return;
    this.#violated("TermIsStoredFirst", `${server} is asked for term ${term}, stored is ${this.stored.term}`);
  }

  /**
   * NewTerm of a term was answered with this head, by an id that counts, to an election that waits for it. One that is over
   * takes no vote any more, whatever disk it is given on.
   */
  fenced(server: string, term: Term, id: ReplicaId | undefined, head: PeerHead): void {
    const place = this.#place(server);
    if (place.living === undefined || place.living.id !== id) return;
    const { stored } = this;
    if (term === stored.term && stored.leader === undefined) this.#checkCounts(place.living, "votes");
    this.#checkHead(place, head, "NewTerm");
  }

  #checkCounts({ server, id, gone }: ReplicaTrace, does: string): void {
    if (gone) this.#violated("EndedIdCounts", `${server} ${does} under ${id}, which its disk has no more or has anew`);
  }

  becomeLeaderAsked(server: string, request: BecomeLeaderRequest): void {
    this.#place(server).asked.set(request.term, request);
  }

  /** A follower acks on the stream of a term's leader. */
  acked(server: string, term: Term, offset: Offset): void {
    const { living } = this.#place(server);
    if (living !== undefined) {
      this.#checkCounts(living, "acks");
      const { members = [], attached } = this.#leadershipOf(term) ?? {};
      if (members.some(({ replicaId }) => replicaId === living.id)) attached?.add(living.id);
    }
    if (offset < 0) return;
    const line = living?.line;
    const made = line?.at(offset);
    if (line === undefined || made === undefined || !line.holds(made)) {
      this.#violated("AckIsVerified", `${server} acks ${offset} to the leader of ${term}, and it is not durable`);
      return;
    }
    const leadership = this.#leadershipOf(term);
    const leader = leadership && this.#place(leadership.server);
    if (leadership === undefined || leader?.promise !== term || leader.life !== leadership.life) return;
    const own = leadership.made.get(offset) ?? leadership.trace.line.at(offset);
    if (leader.living === leadership.trace && own !== made) {
      const what = `${server} acks ${describeEntry(made)}, the leader of ${term} has ${describeEntry(own)}`;
      this.#violated("AckIsVerified", what);
    }
  }

  /** A replica's decision state is another one than before. */
  statusSeen(server: string, state: State): void {
    const place = this.#place(server);
    const { status, promise, applied, id } = state;
    if (id !== place.living?.id) return; // on its way to another life
    if (status === "leader" || status === "frozen") {
      this.led(server, promise);
      if (promise > this.#serving.term) this.#serving = { term: promise, sinceMs: this.#nowMs() };
    }
    if (applied < place.applied) this.#violated("Monotonic", `${server} has applied ${applied} after ${place.applied}`);
  }

  // --- leaders --------------------------------------------------------------------------------------------------------

  /** The replica there leads this term from now on. */
  led(server: string, term: Term): void {
    const place = this.#place(server);
    const trace = place.living;
    if (trace === undefined) {
      this.#violated("LegalLeader", `${server} leads ${term}, and no replica id lives there`);
      return;
    }
    const known = this.#leadershipOf(term);
    if (known !== undefined) {
      if (known.trace === trace && known.life === place.life) return;
      this.#violated("LegalLeader", `${known.server} has led ${term} already when ${server} leads it`);
      return;
    }
    const members = place.asked.get(term)?.members;
    this.#checkLegal(place, term, members);
    this.#checkComplete(trace, term);
    this.#leaderships.push({ term, server, life: place.life, trace, members, made: new Map(), attached: new Set() });
    this.#leaderships.sort((a, b) => a.term - b.term);
  }

  #checkLegal({ server, living }: Place, term: Term, members: readonly StoredSlot[] | undefined): void {
    const promised = (id: ReplicaId) => this.#replicas.get(id)?.promised ?? -1;
    const begun = { server, replicaId: living!.id, term, members };
    for (const { checker, what } of illegalities(begun, this.stored, promised)) this.#violated(checker, what);
  }

  #checkComplete(trace: ReplicaTrace, term: Term): void {
    let last = this.#committed.length - 1;
    while (last >= 0 && this.#committedIn[last]! >= term) last--;
    const made = this.#committed[last];
    if (made === undefined || trace.line.holds(made)) return;
    const what = `${trace.server} leads ${term} with ${describeEntry(trace.line.head)}, committed is ${describeEntry(made)}`;
    this.#violated("LeaderCompleteness", what);
  }

  #leadershipOf(term: Term): Leadership | undefined {
    for (let nth = this.#leaderships.length - 1; nth >= 0; nth--) {
      const leadership = this.#leaderships[nth]!;
      if (leadership.term <= term) return leadership.term === term ? leadership : undefined;
    }
    return undefined;
  }

  // --- the state ------------------------------------------------------------------------------------------------------

  /** The state was opened, or received from another server. */
  stateOpened(server: string, applied: AppliedState, hash: bigint, rows: number): void {
    const place = this.#place(server);
    place.applied = applied.offset;
    if (applied.offset >= 0) this.#compareState(place, applied, hash, rows);
  }

  applied(server: string, applied: AppliedState, hash: bigint, rows: number): void {
    const place = this.#place(server);
    const { offset } = applied;
    const line = place.living?.line;
    const made = line?.at(offset);
    if (line === undefined || made === undefined || !line.holds(made)) {
      this.#violated("AppliedIsDurable", `${server} applies ${offset}, and has ${describeEntry(line?.head)} durable`);
      return;
    }
    place.applied = offset;
    this.#commit(place, made);
    this.#compareState(place, applied, hash, rows);
  }

  #compareState({ server }: Place, { offset, term, versionId }: AppliedState, hash: bigint, rows: number): void {
    const known = this.#states[offset];
    if (known === undefined) {
      const before = this.#states[offset - 1];
      if (before !== undefined && versionId < before.versionId) {
        this.#violated("StateIsOne", `version ids fall from ${before.versionId} to ${versionId} at ${offset}`);
      }
      this.#states[offset] = { hash, rows, versionId, term };
      return;
    }
    if (known.hash === hash && known.rows === rows && known.versionId === versionId && known.term === term) return;
    this.#violated("StateIsOne", `${server} has another state at ${offset} than the one that was first there`);
  }

  /** Something was applied: so it is committed. */
  #commit(place: Place, made: Made): void {
    const { offset } = made;
    const known = this.#committed[offset];
    if (known !== undefined) {
      if (known === made) return;
      const what = `${place.server} commits ${describeEntry(made)}, where ${describeEntry(known)} is committed`;
      this.#violated("NoLossOfConfirmedWrite", what);
      return;
    }
    const { promise: term } = place;
    this.#checkMajority(place.server, term, made);
    this.#checkLaterLeaders(term, made);
    const from = this.#committed.length;
    for (let at: Made | undefined = made; at !== undefined && at.offset >= from; at = at.before) {
      this.#committed[at.offset] = at;
      this.#committedIn[at.offset] = term;
    }
    if (from > 0 && this.#committed[from]!.before !== this.#committed[from - 1]) {
      this.#violated("NoLossOfConfirmedWrite", `${place.server} commits ${describeEntry(made)} on another log`);
    }
  }

  #checkMajority(server: string, term: Term, made: Made): void {
    const members = this.#leadershipOf(term)?.members;
    if (members === undefined) return;
    let holders = 0;
    for (const { replicaId } of members) if (this.#hasHeld(replicaId, term, made)) holders++;
    if (holders > members.length >> 1) return;
    const what = `${server} commits ${describeEntry(made)} in term ${term}, durable on ${holders} of ${members.length}`;
    this.#violated("DurableOnMajority", what);
  }

  /** Whether an id has had an entry durable, with one of the term or a later one at its end. */
  #hasHeld(id: ReplicaId, term: Term, made: Made): boolean {
    const trace = id === NO_REPLICA ? undefined : this.#replicas.get(id);
    if (trace === undefined) return false;
    const had = (line: Line) => line.holds(made) && line.head!.term >= term;
    return had(trace.line) || trace.before.some(had);
  }

  #checkLaterLeaders(term: Term, made: Made): void {
    for (let nth = this.#leaderships.length - 1; nth >= 0; nth--) {
      const { term: later, trace, server } = this.#leaderships[nth]!;
      if (later <= term) return;
      if (trace.lost || trace.line.holds(made)) continue;
      const what = `${describeEntry(made)} is committed in ${term}, and ${server} has led ${later} without it`;
      this.#violated("LeaderCompleteness", what);
    }
  }

  // --- faults ---------------------------------------------------------------------------------------------------------

  /** The disk of a server that is down has lost something, or may have; `gone`: it is empty, or an older one. */
  diskFault(server: string, gone: boolean): void {
    for (const trace of this.#replicas.values()) {
      if (trace.server !== server) continue;
      trace.before.push(trace.line.copy());
      trace.lost = true;
      trace.gone ||= gone;
    }
    const place = this.#place(server);
    place.promise = -1;
    place.living = undefined;
  }

  #place(server: string): Place {
    let place = this.#places.get(server);
    if (place === undefined) {
      place = newPlace(server);
      this.#places.set(server, place);
    }
    return place;
  }

  #checkDivergence(): void {
    const pair = this.#history.divergence;
    if (pair === undefined) return;
    this.#violated("NoLogDivergence", `two entries ${describeEntry(pair[0])} differ`);
  }

  #violated(checker: string, what: string): void {
    this.#fail(new Violation(checker, `shard ${this.shard}: ${what}`));
  }
}
