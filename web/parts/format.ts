/** Numbers, times and hashes as people read them. */
export function hash(value: number): string {
  return value.toString(16).padStart(8, "0");
}

/** Offsets, terms and the like; negative: there is none. */
export function offset(value: bigint | number): string {
  return value < 0 ? "–" : String(value);
}

export function count(value: number | bigint, one: string, many = `${one}s`): string {
  return `${value} ${value === 1 || value === 1n ? one : many}`;
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value: number): string {
  if (value === 1) return "1 byte";
  let unit = 0;
  let amount = value;
  for (; amount >= 1024 && unit < UNITS.length - 1; unit++) amount /= 1024;
  return `${unit === 0 ? amount : amount.toFixed(1)} ${UNITS[unit]}`;
}

const STEPS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1_000, "s"],
] as const;

/** The two largest units: `3 d 4 h`. Under a second: `250 ms`. */
export function duration(ms: number): string {
  if (ms > 0 && ms < 1_000) return `${Math.ceil(ms)} ms`;
  const parts: string[] = [];
  let left = Math.max(0, ms);
  for (const [size, unit] of STEPS) {
    const whole = Math.floor(left / size);
    left -= whole * size;
    if (whole > 0) parts.push(`${whole} ${unit}`);
    if (parts.length === 2 || (parts.length === 1 && whole === 0)) break;
  }
  return parts.length === 0 ? "0 s" : parts.join(" ");
}

/** `2026-11-26 18:32:47 UTC`. */
export function utc(timeMs: number): string {
  const date = new Date(timeMs);
  return Number.isNaN(date.getTime()) ? "–" : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function toleranceWords(faultTolerance: number): string {
  if (faultTolerance < 0) return "a shard has stopped";
  if (faultTolerance === 0) return "no data server may fail";
  return `${count(faultTolerance, "data server")} may fail`;
}

/** A query string of what is given; empty when nothing is. */
export function query(fields: Readonly<Record<string, string | number | bigint | undefined>>): string {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== "");
  if (given.length === 0) return "";
  return `?${given.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&")}`;
}

/** As the keys of sessions have it. */
export function sessionId(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16).padStart(16, "0");
}
