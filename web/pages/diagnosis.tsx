/** @jsxImportSource hono/jsx */
/** `/diagnosis`: rules of thumb, what each saw, and what to do about it. */
import { GetDiagnosis } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { curl } from "../parts/commands.ts";
import { Badge, CopyAs, type Mood, Table } from "../parts/pieces.tsx";

export const BUNDLE_PATH = "/support-bundle.json";

const MOODS: Readonly<Record<string, Mood>> = { pass: "good", warn: "warn", fail: "bad" };

export async function diagnosisPage(asked: Asked): Promise<Page> {
  const { inspect, maxAgeMs, refreshAgeMs = 0 } = asked;
  const { findings } = await inspect.calls.call(GetDiagnosis, { maxAgeMs, refreshAgeMs });
  const body = (
    <>
      <h1>Diagnosis</h1>
      <Table caption="Findings" head={["Rule", "Outcome", "What was seen", "What to do"]}>
        {findings.map(({ rule, outcome, seen, toDo }) => (
          <tr>
            <th scope="row">{rule}</th>
            <td>
              <Badge mood={MOODS[outcome] ?? "quiet"}>{outcome}</Badge>
            </td>
            <td class="key">{seen}</td>
            <td class="key">{toDo}</td>
          </tr>
        ))}
      </Table>
      <p>
        <a class="button" href={BUNDLE_PATH} download>
          Support bundle
        </a>{" "}
        <span class="muted">All that this server says of itself and the cluster, without keys, values and tokens.</span>
      </p>
      <CopyAs commands={[`varia diagnose --admin-address ${inspect.adminAddress()}`, curl(inspect, GetDiagnosis)]} />
    </>
  );
  return { title: "Diagnosis", body, live: true };
}
