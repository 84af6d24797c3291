/** Markdown cut into its top blocks, so that a growing text re-reads only its last one. */
import { Lexer, type Token, type Tokens } from "marked";

export interface Block {
  raw: string;
  /** Set for a code block: it is drawn without going through Markdown again. */
  code?: { text: string; lang: string };
}

const isBlank = (token: Token): boolean => token.type === "space" || token.type === "def";

function blockOf(token: Token): Block {
  if (token.type !== "code") return { raw: token.raw };
  const code = token as Tokens.Code;
  return { raw: token.raw, code: { text: code.text, lang: code.lang?.trim().split(/\s+/)[0] ?? "" } };
}

/** `[name]: address` lines stand outside the blocks that use them. */
const definition = /^ {0,3}\[[^\]\n]+\]:\s*\S+.*$/gm;

export class BlockSplitter {
  private text = "";
  private blocks: Block[] = [];
  /** Where each block begins in the text. */
  private starts: number[] = [];

  /** The blocks of a text. Those before the last keep their identity while the text only grows. */
  split(source: string): readonly Block[] {
    const text = source.includes("\r") ? source.replace(/\r\n?/g, "\n") : source;
    if (text === this.text) return this.blocks;
    const grows = this.blocks.length > 0 && text.startsWith(this.text);
    const kept = grows ? this.blocks.length - 1 : 0;
    const from = grows ? (this.starts[kept] ?? 0) : 0;
    const blocks = this.blocks.slice(0, kept);
    const starts = this.starts.slice(0, kept);
    let at = from;
    for (const token of new Lexer({ gfm: true }).blockTokens(text.slice(from), [])) {
      if (!isBlank(token)) {
        blocks.push(blockOf(token));
        starts.push(at);
      }
      at += token.raw.length;
    }
    this.text = text;
    this.blocks = blocks;
    this.starts = starts;
    return blocks;
  }
}

/** The link definitions of a text, to be read along with a block that may refer to them. */
export const definitions = (text: string): string => (text.includes("]:") ? (text.match(definition) ?? []).join("\n") : "");
