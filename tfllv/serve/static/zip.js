// A zip of pictures, stored as they are: they are compressed already. After PKWARE's APPNOTE, without zip64.

const TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const UTF8 = 0x0800; // flag: names are UTF-8
const DAY = 33; // 1980-01-01: the same pictures give the same bytes
const MOST = 0xffffffff; // bytes; more needs zip64

async function crc32(blob) {
  let crc = 0xffffffff;
  const reader = blob.stream().getReader(); // a piece at a time: the pictures together may exceed the memory
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    for (const byte of piece.value) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

function record(signature, fields) {
  const view = new DataView(new ArrayBuffer(4 + fields.reduce((sum, [, size]) => sum + size, 0)));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [value, size] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

/** Makes a zip of `[{name, blob}]`, as a Blob. */
export async function makeZip(entries) {
  const parts = [], directory = [];
  let offset = 0, length = 0;
  for (const { name, blob } of entries) {
    const bytes = new TextEncoder().encode(name), crc = await crc32(blob);
    const common = [[20, 2], [UTF8, 2], [0, 2], [0, 2], [DAY, 2], [crc, 4], [blob.size, 4], [blob.size, 4], [bytes.length, 2], [0, 2]];
    const head = record(0x04034b50, common);
    const entry = record(0x02014b50, [[20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]]);
    parts.push(head, bytes, blob);
    directory.push(entry, bytes);
    offset += head.byteLength + bytes.length + blob.size;
    length += entry.byteLength + bytes.length;
    if (offset > MOST) throw new RangeError("Together they exceed 4 GB, the most that a zip can hold. Download fewer at once.");
  }
  const end = record(0x06054b50, [[0, 2], [0, 2], [entries.length, 2], [entries.length, 2], [length, 4], [offset, 4], [0, 2]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Names that differ, also where letter case does not count: a second "a.jpg" becomes "a-2.jpg". */
export function uniqueNames(names) {
  const used = new Set();
  return names.map((name) => {
    const dot = name.lastIndexOf(".");
    let chosen = name;
    for (let number = 2; used.has(chosen.toLowerCase()); number++) chosen = `${name.slice(0, dot)}-${number}${name.slice(dot)}`;
    used.add(chosen.toLowerCase());
    return chosen;
  });
}
