/** @jsxImportSource hono/jsx */
/** `/diagnosis`: rules of thumb, what each saw, and what to do about it. */
import { GetClusterStatus, ListEvents } from "../admin.ts";
import { diagnose, type Outcome } from "../diagnosis.ts";
import type { Asked, Page } from "../page.ts";
import { curl } from "../parts/commands.ts";
import { Badge, CopyAs, type Mood, Table } from "../parts/pieces.tsx";
import { clusterStatus } from "../view.ts";

export const BUNDLE_PATH = "/support-bundle.json";

const MOODS: Record<Outcome, Mood> = { pass: "good", warn: "warn", fail: "bad" };
const EVENTS_JUDGED = 1_000;

export async function diagnosisPage(asked: Asked): Promise<Page> {
  const { calls, adminAddress } = asked.inspect;
  const [status, events] = await Promise.all([
    clusterStatus(asked),
    calls.serves(ListEvents) ? calls.call(ListEvents, { limit: EVENTS_JUDGED }).then((page) => page.events) : [],
  ]);
  const findings = diagnose({ status, events, nowMs: Date.now() });
  const body = (
    <>
      <h1>Diagnosis</h1>
      <Table caption="Findings" head={["Rule", "Outcome", "What was seen", "What to do"]}>
        {findings.map(({ rule, outcome, what, next }) => (
          <tr>
            <th scope="row">{rule}</th>
            <td>
              <Badge mood={MOODS[outcome]}>{outcome}</Badge>
            </td>
            <td class="key">{what}</td>
            <td class="key">{next}</td>
          </tr>
        ))}
      </Table>
      <p>
        <a class="button" href={BUNDLE_PATH} download>
          Support bundle
        </a>{" "}
        <span class="muted">All that this server says of itself and the cluster, without keys, values and tokens.</span>
      </p>
      <CopyAs commands={[`varia diagnose --admin-address ${adminAddress()}`, curl(asked.inspect, GetClusterStatus)]} />
    </>
  );
  return { title: "Diagnosis", body, live: true };
}
