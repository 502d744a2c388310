// Lines of a log, made harmless: colors become spans of text, everything else that is not text becomes visible.
import { AnsiUp } from './vendor/ansi_up.js';

/** Longest piece of a line that is drawn in one row. */
const COLUMNS_MAX = 1000;
/** Most rows that the page keeps; the first ones go. */
const ROWS_MAX = 200_000;

const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f\u2028\u2029\ufeff]/g;
// Sequences that move the cursor, erase, or set titles; colors (ending in m) and links stay.
const MOVES = /\u001b\[[0-9;?]*[A-HJKSTfhlnsu]|\u001b\](?!8;)[^\u0007\u001b]*(\u0007|\u001b\\)/g;

const name = (char) => `‹U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}›`;
const picture = (char) => {
  const code = char.codePointAt(0);
  return code < 0x20 ? String.fromCodePoint(0x2400 + code) : code === 0x7f ? '␡' : name(char);
};

/** Text without anything that could move, hide or reorder other text. */
const harmless = (text) => text.replace(BIDI, name).replace(CONTROL, picture).replaceAll('\t', '    ');

/** What a terminal shows of a line that was written over with \r. */
const afterReturns = (text) => {
  const bare = text.replace(/\r+$/, '');
  return bare.slice(bare.lastIndexOf('\r') + 1);
};

/** Splits text at color sequences. It makes no HTML: what it finds are texts with a color. */
class Painter extends AnsiUp {
  transform_to_html({ text, bold, faint, italic, underline, fg, bg }) {
    if (text) this.found.push({ text: harmless(text), bold, faint, italic, underline, fg, bg });
    return '';
  }

  // Links of terminals (OSC 8) could lead anywhere: only their text is shown.
  process_hyperlink({ text }) {
    return this.transform_to_html(this.with_state({ text }));
  }

  paint(text) {
    this.found = [];
    this.ansi_to_html(text.replace(MOVES, ''));
    // An unfinished sequence must not eat the next line.
    if (this._buffer) this.found.push({ text: harmless(this._buffer.replaceAll('\u001b', '␛')) });
    this._buffer = '';
    return this.found.map((span) => ({ ...span, text: span.text.replaceAll('\u001b', '␛') }));
  }

  get plain() {
    return !(this.bold || this.faint || this.italic || this.underline || this.fg || this.bg);
  }
}

/** All rows of a log so far. A row is `{text, spans, line}`; `spans` only where there are colors. */
export class Lines {
  constructor() {
    this.clear();
  }

  clear() {
    this.rows = [];
    this.painter = new Painter();
    this.count = 0;
    this.dropped = 0;
  }

  add(text) {
    this.count += 1;
    const shown = afterReturns(text);
    const isPlain = this.painter.plain && !shown.includes('\u001b');
    const spans = isPlain ? [{ text: harmless(shown) }] : this.painter.paint(shown);
    this.push(spans, isPlain, this.count);
    if (this.rows.length > ROWS_MAX) this.dropped += this.rows.splice(0, ROWS_MAX / 10).length;
  }

  /** A line of our own, between those of the log. */
  note(text) {
    this.rows.push({ text: harmless(text), line: 0, note: true });
  }

  push(spans, isPlain, line) {
    let [row, length] = [[], 0];
    const end = () => {
      const text = row.map((span) => span.text).join('');
      this.rows.push(isPlain ? { text, line } : { text, line, spans: row });
      [row, length, line] = [[], 0, 0];
    };
    for (let { text, ...style } of spans) {
      while (length + text.length > COLUMNS_MAX) {
        const head = text.slice(0, COLUMNS_MAX - length);
        row.push({ ...style, text: head });
        text = text.slice(head.length);
        end();
      }
      if (text) row.push({ ...style, text });
      length += text.length;
    }
    if (row.length || line) end();
  }
}

const ERROR = /\b(error|exception|traceback|fatal|failed|cannot|could not|no such file|not found|denied|killed)\b/i;
export const isError = (row) => !row.note && ERROR.test(row.text) && !/\b(0 errors?|no errors?)\b/i.test(row.text);
