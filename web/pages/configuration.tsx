/** @jsxImportSource hono/jsx */
/** `/configuration`: what this process was started with, and what gave each value; how much it logs. */
import type { ConfiguredSetting } from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { LOG_LEVELS } from "../../src/ops/logger.ts";
import { GetConfiguration } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { Actions, Choice, DeedForm, mayDo } from "../parts/actions.tsx";
import { curl } from "../parts/commands.ts";
import { Badge, CopyAs, Table } from "../parts/pieces.tsx";
import { ProcessTrail } from "../parts/process-trail.tsx";
import { nodeStatus, processOf } from "../view.ts";

export async function configurationPage(asked: Asked): Promise<Page> {
  const process = processOf(asked);
  const [{ settings, cluster }, { logLevel }] = await Promise.all([
    asked.inspect.calls.call(GetConfiguration, process),
    nodeStatus(asked),
  ]);
  const body = (
    <>
      <ProcessTrail process={process} />
      <h1>Configuration</h1>
      <p class="lead">
        What {process.server ?? "this process"} was started with: a flag beats the environment, which beats the file. It
        logs at the level <strong>{logLevel}</strong>.
      </p>
      <SettingTable caption="Settings" settings={settings} />
      {cluster.length === 0 ? null : (
        <>
          <h2>The cluster</h2>
          <p class="lead">As it is in force; it changes with its file, and with what is done here.</p>
          <SettingTable caption="The cluster" settings={cluster} />
        </>
      )}
      <CopyAs commands={[curl(asked.inspect, GetConfiguration, process)]} />
    </>
  );
  const still = mayDo(asked, "log-level") ? (
    <Actions>
      <DeedForm name="log-level" label="Change" fixed={process}>
        <Choice name="level" label="Log level" options={LOG_LEVELS} chosen={logLevel} />
      </DeedForm>
    </Actions>
  ) : null;
  return { title: process.server === undefined ? "Configuration" : `Configuration of ${process.server}`, body, still };
}

function SettingTable({ caption, settings }: { caption: string; settings: readonly ConfiguredSetting[] }) {
  return (
    <Table caption={caption} head={["Setting", "Value", "Given by", "Default", "For"]}>
      {settings.map(({ name, value, origin, source, defaultValue, description }) => (
        <tr>
          <th scope="row" class="mono">
            {name}
          </th>
          <td class="mono key">{value || "none"}</td>
          <td>{origin === "default" ? "default" : <Badge mood="quiet">{`${origin} ${source}`}</Badge>}</td>
          <td class="mono key">{defaultValue}</td>
          <td>{description}</td>
        </tr>
      ))}
    </Table>
  );
}
