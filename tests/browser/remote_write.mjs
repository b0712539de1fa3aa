// Just enough of remote write 1.0 to put samples into a server: protobuf by hand, snappy without compression.

const utf8 = new TextEncoder();

function varint(value) {
  const out = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    const low = Number(rest & 127n);
    if (rest < 128n) return [...out, low];
    out.push(low | 128);
  }
}

const field = (number, bytes) => [...varint(number * 8 + 2), ...varint(bytes.length), ...bytes];
const text = (number, value) => field(number, utf8.encode(value));

function sample(value, millis) {
  const bits = new Uint8Array(8);
  new DataView(bits.buffer).setFloat64(0, value, true);
  return [9, ...bits, 16, ...varint(millis)];
}

// One literal after the other: valid snappy, only larger.
function snappy(bytes) {
  const out = [...varint(bytes.length)];
  for (let at = 0; at < bytes.length; at += 60) {
    const part = bytes.slice(at, at + 60);
    out.push((part.length - 1) << 2, ...part);
  }
  return Uint8Array.from(out);
}

// `series` is a list of `{ labels, samples: [[millis, value], …] }`.
export async function push(base, series) {
  const body = series.flatMap(({ labels, samples }) =>
    field(1, [
      ...Object.entries(labels)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .flatMap(([name, value]) => field(1, [...text(1, name), ...text(2, value)])),
      ...samples.flatMap(([millis, value]) => field(2, sample(value, millis))),
    ]),
  );
  const response = await fetch(`${base}/api/v1/write`, {
    method: "POST",
    headers: {
      "Content-Type": "application/x-protobuf",
      "Content-Encoding": "snappy",
      "X-Prometheus-Remote-Write-Version": "0.1.0",
    },
    body: snappy(body),
  });
  if (!response.ok) throw new Error(`remote write: ${response.status} ${await response.text()}`);
}
