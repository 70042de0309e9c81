/** Whether a leadership that begins is one that the stored ensembles allow (safety.md §2, §3, §9). */
import type { ReplicaId, Term } from "../../src/model/ids.ts";
import type { StoredEnsemble, StoredSlot } from "./violation.ts";

/** A replica that leads from now on. */
export interface BegunLeadership extends StoredSlot {
  readonly term: Term;
  /** As BecomeLeader named them. */
  readonly members: readonly StoredSlot[] | undefined;
}

export interface Illegality {
  readonly checker: "TermIsStoredFirst" | "BothMajorities" | "LegalEnsemble" | "LegalLeader";
  readonly what: string;
}

/** `promised`: the highest term that an id has promised. */
export function illegalities(
  { server, replicaId, term, members }: BegunLeadership,
  stored: StoredEnsemble,
  promised: (id: ReplicaId) => Term,
): readonly Illegality[] {
  if (stored.term < term) {
    return [{ checker: "TermIsStoredFirst", what: `${server} leads ${term}, stored is ${stored.term}` }];
  }
  if (stored.term !== term || members === undefined) return [];
  const found: Illegality[] = [];
  const agree = members.length === stored.members.length && members.every((slot) => lists(stored.members, slot));
  if (!agree) {
    found.push({ checker: "LegalEnsemble", what: `${server} leads ${term} with members that are not the stored ones` });
  }
  if (!lists(members, { server, replicaId })) {
    found.push({ checker: "LegalLeader", what: `${server} leads ${term} and is not a member` });
  }
  for (const slots of [stored.members, stored.formerMembers]) {
    const votes = slots.filter((slot) => promised(slot.replicaId) >= term).length;
    if (slots.length === 0 || votes > slots.length >> 1) continue;
    found.push({ checker: "BothMajorities", what: `${server} leads ${term}, promised by ${votes} of ${slots.length}` });
  }
  return found;
}

function lists(slots: readonly StoredSlot[], { server, replicaId }: StoredSlot): boolean {
  return slots.some((slot) => slot.server === server && slot.replicaId === replicaId);
}
