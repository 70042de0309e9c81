/** @jsxImportSource hono/jsx */
/** `/performance`: what this process did in the last hour. */
import { GetHistory } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { Chart, chartCapacity } from "../parts/chart.tsx";
import { curl } from "../parts/commands.ts";
import { CopyAs, Empty, Time } from "../parts/pieces.tsx";
import { ProcessTrail } from "../parts/process-trail.tsx";
import { processOf } from "../view.ts";

export async function performancePage(asked: Asked): Promise<Page> {
  const { inspect } = asked;
  const process = processOf(asked);
  const { series, lastMs, intervalMs, samplesMax } = await inspect.calls.call(GetHistory, process);
  const charts = Map.groupBy(series, ({ chart }) => chart);
  const samples = series[0]?.points.length ?? 0;
  const body = (
    <>
      <ProcessTrail process={process} />
      <h1>Performance</h1>
      <p class="lead">
        {`${process.server ?? "This process"} in the last hour, looked at every ${intervalMs / 1000} seconds; last `}
        <Time ms={lastMs} />
        {inspect.mode === "coordinator" && process.server === undefined ? (
          <>
            . Each data server has a page like this, which its <a href="/servers">own page</a> leads to.
          </>
        ) : (
          "."
        )}
      </p>
      {samples === 0 ? (
        <Empty>Nothing is known yet: the first look comes in some seconds.</Empty>
      ) : (
        <div class="columns">
          {[...charts].map(([title, lines]) => (
            <Chart
              title={title}
              series={lines}
              capacity={chartCapacity(lines, samplesMax)}
              span={{ lastMs: Number(lastMs), intervalMs }}
            />
          ))}
        </div>
      )}
      <CopyAs commands={[curl(inspect, GetHistory, process)]} />
    </>
  );
  return {
    title: process.server === undefined ? "Performance" : `Performance of ${process.server}`,
    body,
    live: true,
    charts: true,
  };
}
