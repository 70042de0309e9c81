/** The text of a configuration file, YAML or JSON: what it says, and on which line what stands. */
import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";

export interface YamlOptions {
  /** Whether `<<` takes in the fields of another mapping. */
  readonly merge: boolean;
}

export class YamlText {
  /** Plain data; null for a text without any. */
  readonly value: unknown;
  readonly #document: Document;
  readonly #lines = new LineCounter();

  /** Throws an Error for what is no YAML: the message says where and why. */
  constructor(text: string, options: YamlOptions) {
    this.#document = parseDocument(text, { ...options, lineCounter: this.#lines, prettyErrors: false });
    const [error] = this.#document.errors;
    if (error !== undefined) {
      const { line, col } = this.#lines.linePos(error.pos[0]);
      throw new Error(`line ${line}, column ${col}: ${error.message}`, { cause: error });
    }
    this.value = this.#document.toJS();
  }

  /**
   * `line 3: `, where the value at a path of names and positions with dots between them stands, or as much of the path as
   * is there; empty: nowhere.
   */
  placeOf(path: string): string {
    const names = path === "" ? [] : path.split(".");
    const offset = this.#offsetOf(this.#document.contents, names, undefined);
    return offset === undefined ? "" : `line ${this.#lines.linePos(offset).line}: `;
  }

  /** `otherwise`: where that stands in which nothing is found. */
  #offsetOf(node: unknown, names: readonly string[], otherwise: number | undefined): number | undefined {
    const inner = isAlias(node) ? node.resolve(this.#document) : node;
    if (isSeq(inner)) {
      const item = inner.items[Number(names[0] ?? Number.NaN)];
      return item === undefined ? otherwise : this.#offsetOf(item, names.slice(1), startOf(item) ?? otherwise);
    }
    if (!isMap(inner)) return otherwise;
    // a name may have dots too
    for (let count = names.length; count > 0; count--) {
      const name = names.slice(0, count).join(".");
      const pair = inner.items.find(({ key }) => String(isScalar(key) ? key.value : key) === name);
      if (pair !== undefined) return this.#offsetOf(pair.value, names.slice(count), startOf(pair.key) ?? otherwise);
    }
    return otherwise;
  }
}

function startOf(node: unknown): number | undefined {
  return (node as { readonly range?: readonly [number, ...unknown[]] | null } | null)?.range?.[0];
}
