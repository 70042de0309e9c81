/**
 * Logs on standard error: JSON lines, or text on a terminal. pino without transports: they start workers by path,
 * which a compiled executable does not have.
 */
import pino from "pino";
import type { LogFields, Logger } from "../ports.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A logger whose level changes while it logs. */
export interface ServerLogger extends Logger {
  level: LogLevel;
}

/** `json`: lines of JSON even on a terminal. */
export function openLogger(options: { level: LogLevel; json: boolean }): ServerLogger {
  const standardError = pino.destination({ dest: 2, sync: true });
  const text = !options.json && process.stderr.isTTY === true;
  const logger = pino(
    {
      level: options.level,
      base: null,
      messageKey: "msg",
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      serializers: { err: pino.stdSerializers.err },
    },
    text ? { write: (line: string) => standardError.write(asText(line)) } : standardError,
  );
  return {
    get level() {
      return logger.level as LogLevel;
    },
    set level(level) {
      logger.level = level;
    },
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.info(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
  };
}

/** `12:00:01.234 INFO  message key=value …` */
function asText(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as LogFields & { time: string; level: string };
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  const cause = err === undefined ? "" : `\n  ${(err as { stack?: string }).stack ?? JSON.stringify(err)}`;
  return `${time.slice(11, 23)} ${level.toUpperCase().padEnd(5)} ${String(msg)}${pairs.join("")}${cause}\n`;
}
