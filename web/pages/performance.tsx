/** @jsxImportSource hono/jsx */
/** `/performance`: what this process did in the last hour. */
import { GetHistory } from "../admin.ts";
import type { Asked, Page } from "../page.ts";
import { Chart, chartCapacity } from "../parts/chart.tsx";
import { Empty, Time } from "../parts/pieces.tsx";

export async function performancePage({ inspect }: Asked): Promise<Page> {
  const { series, lastMs, intervalMs, samplesMax } = await inspect.calls.call(GetHistory, {});
  const charts = Map.groupBy(series, ({ chart }) => chart);
  const samples = series[0]?.points.length ?? 0;
  const body = (
    <>
      <h1>Performance</h1>
      <p class="lead">
        {`This process in the last hour, looked at every ${intervalMs / 1000} seconds; last `}
        <Time ms={lastMs} />
        {inspect.mode === "coordinator" ? ". Each data server has this page of its own." : "."}
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
    </>
  );
  return { title: "Performance", body, live: true, charts: true };
}
