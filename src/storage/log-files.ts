/** Names of the log's files in its directory. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

const SEGMENT = /^log-(\d+)\.sqlite$/;

export function segmentPath(directory: string, number: number): string {
  return join(directory, `log-${number}.sqlite`);
}

export function promisesPath(directory: string): string {
  return join(directory, "promises.sqlite");
}

export function watermarkPath(directory: string): string {
  return join(directory, "watermark");
}

export function ballastPath(directory: string): string {
  return join(directory, "ballast");
}

/** Numbers of the segments that are there, ascending. */
export function segmentNumbers(directory: string): number[] {
  const numbers = readdirSync(directory).map((name) => SEGMENT.exec(name)?.[1]);
  return numbers
    .filter((number) => number !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}
