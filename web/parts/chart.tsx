/** @jsxImportSource hono/jsx */
/** Lines over the last hour, as an SVG that needs no script. */
import type { Series } from "../../src/gen/varia/admin/v1/admin_pb.ts";
import { bytes } from "./format.ts";

const WIDTH = 360;
const HEIGHT = 90;
const COLOURS = 8;

interface ChartProps {
  readonly title: string;
  /** Of one unit. */
  readonly series: readonly Series[];
  /** Points that it has room for. */
  readonly capacity: number;
  /** When its points were taken: then a script can draw it so that each can be read. */
  readonly span?: { readonly lastMs: number; readonly intervalMs: number };
}

export function Chart({ title, series, capacity, span }: ChartProps) {
  const unit = series[0]?.unit ?? "";
  const most = Math.max(...series.flatMap(({ points }) => points), 0);
  const top = most === 0 ? 1 : most;
  const last = ({ points }: Series) => points.at(-1);
  return (
    <figure class="card chart" data-chart={span === undefined ? undefined : dataOf(series, unit, span)}>
      <figcaption>
        {title} <small class="muted">{`at most ${amount(most, unit)}`}</small>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`${title}, over time`}>
        {series.map(({ points }, nth) => (
          <polyline class={`l${nth % COLOURS}`} points={pointsOf(points, { top, capacity })} />
        ))}
      </svg>
      {span === undefined ? null : <div class="plot" />}
      <ul class="legend">
        {series.map((one, nth) => (
          <li>
            <span class={`swatch b${nth % COLOURS}`} />
            {`${one.name}: ${last(one) === undefined ? "–" : amount(last(one)!, unit)}`}
          </li>
        ))}
      </ul>
    </figure>
  );
}

/** For assets/charts.js. */
function dataOf(series: readonly Series[], unit: string, span: NonNullable<ChartProps["span"]>): string {
  const lines = series.map(({ name, points }) => ({
    name,
    points: points.map((point) => Number(point.toPrecision(4))),
  }));
  return JSON.stringify({ ...span, unit, series: lines });
}

/** Points that a chart has room for, at least. */
const CAPACITY_MIN = 30;

/** While there is less than an hour, what there is takes the room. */
export function chartCapacity([first]: readonly Series[], samplesMax: number): number {
  return Math.min(samplesMax, Math.max(first?.points.length ?? 0, CAPACITY_MIN));
}

/** The newest at the right. */
function pointsOf(points: readonly number[], { top, capacity }: { top: number; capacity: number }): string {
  const step = WIDTH / Math.max(1, capacity - 1);
  return points
    .map((point, nth) => {
      const x = WIDTH - (points.length - 1 - nth) * step;
      const y = HEIGHT - 2 - (point / top) * (HEIGHT - 4);
      return `${x.toFixed(1)},${y.toFixed(1)}`;
    })
    .join(" ");
}

export function amount(value: number, unit: string): string {
  if (unit === "bytes") return bytes(Math.round(value));
  if (unit === "bytes/s") return `${bytes(Math.round(value))}/s`;
  const digits = value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  const text = value.toFixed(digits);
  if (unit === "") return text;
  return unit === "1/s" ? `${text} a second` : `${text} ${unit}`;
}
