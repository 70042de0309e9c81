/**
 * The file with the cluster's configuration: read at the start, again whenever it changes, and rewritten by admin calls
 * so that what the operator has written beside it, comments too, stays.
 *
 * A change is noticed by looking at the file once a second: editors, config maps and `mv` replace it in ways that file
 * watches miss. A document that cannot be meant changes nothing; its complaint is told once.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { ConfigEdit, ConfigFile } from "../coordination/administer.ts";
import type { ClusterConfig } from "../coordination/cluster-config.ts";
import { ConfigInvalid, parseConfig } from "../coordination/parse-config.ts";
import { utf8 } from "../lib/bytes.ts";
import { CLUSTER_CONFIG_BYTES_MAX, CLUSTER_CONFIG_POLL_MS } from "../model/limits.ts";
import { Refusal } from "../model/refusal.ts";
import { StatusInvalid } from "../model/status-entries.ts";
import type { GivenSetting } from "../ops/settings.ts";
import type { Clock, Logger } from "../ports.ts";
import { replaceFile, syncDirectory } from "../storage/files.ts";
import { editedDocument } from "./cluster-document.ts";
import { clusterSettings } from "./cluster-settings.ts";
import { YamlText } from "./yaml-text.ts";

const NEW_FILE = `# The cluster: its data servers and namespaces. Changes are taken up within a second.
servers: []
namespaces: []
`;

/** What is edited has the fields of a server or namespace in one place. */
const YAML = { merge: false };

export class ClusterFile implements ConfigFile {
  readonly path: string;
  readonly #logger: Logger;
  #text: string;
  #config: ClusterConfig;
  /** The one that who watches knows of: an edit that comes to nothing may have read another. */
  #told: ClusterConfig;
  #cancelPoll: () => void = () => {};
  #complained = "";

  /** Reads the file; makes one for a cluster without servers when it is missing and `create`. Throws ConfigInvalid. */
  static open(path: string, logger: Logger, { create }: { readonly create: boolean }): ClusterFile {
    if (create && !existsSync(path)) {
      mkdirSync(dirname(path), { recursive: true });
      write(path, NEW_FILE);
    }
    return new ClusterFile(path, logger, read(path));
  }

  private constructor(path: string, logger: Logger, text: string) {
    this.path = path;
    this.#logger = logger;
    this.#text = text;
    this.#config = this.#parseFile(text);
    this.#told = this.#config;
  }

  get config(): ClusterConfig {
    return this.#config;
  }

  /** What is in force, with the line that gives each value. */
  get settings(): GivenSetting[] {
    return clusterSettings(this.#config, { yaml: new YamlText(this.#text, YAML), file: basename(this.path) });
  }

  /** Calls `changed` with each further configuration that can be meant, until the returned function is called. */
  watch(clock: Clock, changed: (config: ClusterConfig) => void): () => void {
    const look = () => {
      this.#cancelPoll = clock.after(CLUSTER_CONFIG_POLL_MS, look);
      try {
        this.reload();
        this.#complained = "";
      } catch (error) {
        this.#complain((error as Error).message);
      }
      if (this.#config === this.#told) return;
      this.#told = this.#config;
      changed(this.#config);
    };
    this.#cancelPoll = clock.after(CLUSTER_CONFIG_POLL_MS, look);
    return () => this.#cancelPoll();
  }

  /** Takes the file as it stands now. Throws ConfigInvalid, or what reading it says, with the old one in force. */
  reload(): void {
    const text = read(this.path);
    if (text === this.#text) return;
    this.#config = this.#parseFile(text);
    this.#text = text;
  }

  /** See ConfigFile. What it comes to is told to its caller alone, not to who watches. */
  edit(decide: (config: ClusterConfig) => ConfigEdit): ClusterConfig {
    this.reload();
    const text = editedDocument(this.#text, decide(this.#config));
    const config = this.#configOf(new YamlText(text, YAML)); // lines of it nobody has seen
    if (read(this.path) !== this.#text) {
      throw new Refusal("CONCURRENT_CHANGE", "the cluster's configuration was changed meanwhile");
    }
    write(this.path, text);
    this.#text = text;
    this.#config = config;
    this.#told = config;
    return config;
  }

  /** Throws ConfigInvalid, which names the file and the place in it. */
  #parseFile(text: string): ClusterConfig {
    let yaml: YamlText | undefined;
    try {
      yaml = new YamlText(text, YAML);
      return this.#configOf(yaml);
    } catch (cause) {
      throw new ConfigInvalid(`${this.path}: ${whatIsWrong(cause as Error, yaml)}`, { cause });
    }
  }

  #configOf({ value }: YamlText): ClusterConfig {
    const { config, unknown } = parseConfig(value);
    if (unknown.length > 0) {
      const fields = { component: "config", file: this.path };
      this.#logger.warn(fields, `nobody knows ${unknown.join(", ")}: passed over`);
    }
    return config;
  }

  #complain(message: string): void {
    if (message === this.#complained) return;
    this.#complained = message;
    this.#logger.error({ component: "config", file: this.path }, `${message}; the one before stays in force`);
  }
}

/** With the line, where it is known. */
function whatIsWrong(error: Error, yaml: YamlText | undefined): string {
  const { cause } = error;
  if (yaml === undefined || !(cause instanceof StatusInvalid)) return error.message;
  return `${yaml.placeOf(cause.path)}${cause.path || "the document"} ${cause.what}`;
}

function read(path: string): string {
  const bytes = readFileSync(path);
  if (bytes.length > CLUSTER_CONFIG_BYTES_MAX) {
    throw new ConfigInvalid(`${path} is longer than ${CLUSTER_CONFIG_BYTES_MAX} bytes`);
  }
  return bytes.toString("utf8");
}

/** Where the name is a link, the file that it stands for; who may read it stays as it was. */
function write(path: string, text: string): void {
  const before = existsSync(path) ? realpathSync(path) : undefined;
  const file = before ?? path;
  const mode = before === undefined ? undefined : statSync(before).mode;
  replaceFile(file, utf8(text));
  if (mode !== undefined) chmodSync(file, mode);
  syncDirectory(dirname(file));
}
