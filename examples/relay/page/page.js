
'use strict';
// One thing at a time: either this page sends (`role: 'sender'`), or it was opened by a link and receives. The bytes go
// by PUT and GET of one stream of the rendezvous; how far they are is asked of the stream's status, by both sides.
const $ = (id) => document.getElementById(id);
const STREAM = document.body.dataset.stream;
const TTL = Number(document.body.dataset.ttl);
const TEXT_SHOWN = 4 << 20;
const VIEWS = ['home', 'share', 'offer', 'transfer', 'message', 'over'];

// What is going on: { role, kind, name, size, id, ... }. Whoever has waited for something looks whether it still is.
let job = null;

for (const place of document.querySelectorAll('.origin')) place.textContent = location.origin;

// ---- What is shown

function show(view) {
  for (const id of VIEWS) $(id).hidden = id !== view;
  $('without').hidden = view !== 'home';
  const heading = $(view).querySelector('h1');
  if (document.body.dataset.shown) heading.focus({ preventScroll: false });
  document.body.dataset.shown = view;
  document.title = view === 'home' ? 'Relay' : `${heading.textContent} · Relay`;
}

function bytes(n) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  const style = { style: 'unit', unit: units[at], unitDisplay: at ? 'short' : 'long', maximumFractionDigits: n < 10 && at ? 1 : 0 };
  return new Intl.NumberFormat('en', style).format(n);
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s >= 5400) return `${Math.round(s / 3600)} hours`;
  if (s >= 90) return `${Math.round(s / 60)} minutes`;
  return s === 1 ? '1 second' : `${s} seconds`;
}

// Without the characters that turn the direction of writing: "exe.jpg" must not look like "gpj.exe".
const plain = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');

// ---- What can go wrong, in words that say what to do

const TROUBLE = {
  expired: {
    sender: ['The link has expired', 'Nobody opened it in time. Make a new one when the other device is at hand.'],
    receiver: ['This link has expired', 'It was not opened in time. Ask the sender for a new one.'],
  },
  gone: {
    sender: ['The link is gone', 'The relay does not know it any more. Make a new one.'],
    receiver: ['This link does not work any more', 'It was used, has expired, or the sender has closed the page. Ask for a new one.'],
  },
  used: {
    sender: ['The link was used by another sender', 'Make a new one.'],
    receiver: ['This link was used already', 'It works only once. If it was not you who opened it, ask the sender for a new one.'],
  },
  source: {
    sender: ['The connection was lost', 'Check this device\u2019s network, then try again with a new link.'],
    receiver: ['The sender has left', 'If a part has arrived, it is not complete: delete it, and ask the sender for a new link.'],
  },
  destination: {
    sender: ['The other side has left', 'It has not received everything. Try again with a new link.'],
    receiver: ['The download was broken off', 'What has arrived is not complete. Ask the sender for a new link.'],
  },
  cancelled: {
    sender: ['The other side said no', 'It does not want to receive this now.'],
    receiver: ['The sender has withdrawn it', 'They have cancelled, or closed the page. Ask for a new link if you expected something.'],
  },
  busy: {
    sender: ['The relay is busy', 'Too much is going on just now.'],
    receiver: ['The relay is busy', 'Too much is going on just now.'],
  },
  large: {
    sender: ['That is too large for this relay', 'Send it in parts, or ask whoever runs the relay for a higher limit.'],
    receiver: ['That is too large for this relay', 'Ask the sender to send it in parts.'],
  },
  long: {
    receiver: ['The text is too long to be shown', 'Ask the sender to send it as a file.'],
  },
  missed: {
    receiver: ['The transfer is over', 'This page was asleep and does not know how it ended. Look among the downloads of this browser, which tell whether it is complete.'],
  },
  stopping: {
    sender: ['The relay is being restarted', 'Try again in a moment.'],
    receiver: ['The relay is being restarted', 'Ask the sender for a new link in a moment.'],
  },
  unreachable: {
    sender: ['The relay cannot be reached', 'Check this device\u2019s network, then try again.'],
    receiver: ['The relay cannot be reached', 'Check this device\u2019s network, then open the link again.'],
  },
  unreadable: {
    sender: ['The file could not be read', 'It was changed, moved or deleted meanwhile. Choose it again.'],
  },
  other: {
    sender: ['That did not work', 'Try again with a new link.'],
    receiver: ['That did not work', 'Ask the sender for a new link.'],
  },
};

// By the names of errors, and of states, of the rendezvous.
const CAUSES = {
  SessionTimeoutError: 'expired', TIMEOUT_NO_SRC: 'expired', TIMEOUT_NO_DST: 'expired', TIMEOUT_NO_SRC_NO_DST: 'expired',
  SessionNotFoundError: 'gone', BadRouteError: 'gone', AlreadyConnectedError: 'used', StreamStartedError: 'used',
  StreamSourceError: 'source', SRC_DISCONNECTED: 'source', SRC_ERROR: 'source',
  StreamDestinationError: 'destination', DST_DISCONNECTED: 'destination', DST_ERROR: 'destination',
  CancelledError: 'cancelled', DeclinedError: 'cancelled', Error: 'cancelled', CLIENT_ERROR: 'cancelled',
  TooManyStreamsError: 'busy', RateLimitError: 'busy', BodyTooLargeError: 'large', ServerStoppingError: 'stopping',
};

const cause = (name) => (Object.hasOwn(CAUSES, name) ? CAUSES[name] : 'other');

function fail(its, why, more = '') {
  if (its !== job) return;
  const words = TROUBLE[why][its.role] ?? TROUBLE.other[its.role];
  finish(false, words[0], `${words[1]} ${more}`, its.role === 'sender');
}

function finish(good, title, text, again = false) {
  const { again: repeat, role } = stop() ?? {};
  // Of SVG: they have no property of that name.
  $('good').toggleAttribute('hidden', !good);
  $('bad').toggleAttribute('hidden', good);
  $('over-title').textContent = title;
  $('over-text').textContent = text;
  $('again').hidden = !again || !repeat;
  $('again').onclick = repeat;
  $('fresh').textContent = role === 'receiver' ? 'Send something yourself' : good ? 'Send another' : 'Send something else';
  $('fresh').className = again && repeat ? 'quiet' : '';
  show('over');
}

// An answer that is an error: why, and what else there is to say.
async function problem(answer) {
  let name = '';
  try { name = String((await answer.json()).name); } catch { /* not one of ours, perhaps a proxy's */ }
  const why = Object.hasOwn(CAUSES, name) ? CAUSES[name] : { 413: 'large', 429: 'busy', 503: 'busy', 404: 'gone' }[answer.status] ?? 'other';
  const after = Number(answer.headers.get('Retry-After'));
  return [why, why === 'busy' ? `Try again ${after > 0 ? `in ${span(after)}` : 'in a moment'}.` : ''];
}

// ---- Jobs

function begin(its) {
  stop();
  job = its;
  if (location.hash && its.role === 'sender') history.replaceState(null, '', location.pathname);
  // A phone that falls asleep breaks the connection. Whether it can be kept awake is the browser's affair.
  navigator.wakeLock?.request('screen').then((lock) => (its === job ? (its.lock = lock) : lock.release())).catch(() => {});
  return its;
}

function stop() {
  const its = job;
  job = null;
  if (!its) return null;
  clearInterval(its.clock);
  its.lock?.release().catch(() => {});
  its.abort?.abort();
  if (its.xhr) { its.xhr.onload = its.xhr.onerror = null; its.xhr.abort(); }
  if (its.picture) { $('qr').hidden = true; $('qr').removeAttribute('src'); URL.revokeObjectURL(its.picture); }
  return its;
}

const url = (id) => `${STREAM}/${id}`;
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

// What the other side is told instead of being left without a word.
const tell = (id, name, message) => fetch(`${url(id)}/error`, {
  method: 'POST', keepalive: true, headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ http_status: 410, name, message }),
}).catch(() => {});

async function status(id) {
  const answer = await fetch(`${url(id)}/status`, { cache: 'no-store' });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.json();
}

// Asks how it stands, until the job is over.
async function watch(its, told) {
  for (let missed = 0; its === job; await pause(its.begun ? 400 : 1200)) {
    let now;
    try {
      now = await status(its.id);
      missed = 0;
    } catch {
      missed += 1;
      if (missed > 20) fail(its, 'unreachable');
      continue;
    }
    if (its === job) told(now);
  }
}

function moving(its, title, hint) {
  if (!its.begun) {
    its.begun = performance.now();
    its.marks = [];
    $('transfer-title').textContent = title;
    $('transfer-name').textContent = its.name;
    $('transfer-hint').textContent = hint;
    $('transfer-cancel').hidden = its.role === 'receiver' && its.kind === 'file';
    $('bar').removeAttribute('value');
    $('amount').textContent = 'Connecting\u2026';
    $('rate').textContent = '';
    show('transfer');
  }
}

function progress(its, n) {
  const now = performance.now();
  its.marks.push([now, n]);
  // The rate of the last few seconds.
  while (its.marks.length > 2 && now - its.marks[0][0] > 5000) its.marks.shift();
  const [[then, before]] = its.marks;
  const rate = now - then > 700 ? (n - before) / (now - then) * 1000 : 0;
  if (its.size > 0) {
    const share = Math.min(1, n / its.size);
    $('bar').value = share;
    $('amount').textContent = `${bytes(n)} of ${bytes(its.size)}`;
    document.title = `${Math.floor(share * 100)} % · Relay`;
  } else {
    $('amount').textContent = bytes(n);
  }
  const left = rate > 0 && its.size > n ? ` · ${span((its.size - n) / rate)} left` : '';
  $('rate').textContent = rate > 0 ? `${bytes(rate)}/s${left}` : '';
}

// ---- Sending

function headers(its) {
  // RFC 6266: a name for everybody, and the true one.
  const ascii = its.name.normalize('NFKD').replace(/[\u0300-\u036f]/g, '').replace(/[^ -~]|["\\%;]/g, '_');
  const name = its.name.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '_');
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
  return {
    'Content-Type': its.kind === 'text' ? 'text/plain; charset=utf-8' : its.blob.type || 'application/octet-stream',
    'Content-Disposition': `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`,
    'Content-Length': String(its.size),
  };
}

async function send(blob, name, kind) {
  const its = begin({ role: 'sender', kind, blob, name: plain(name) || 'file', size: blob.size, again: () => send(blob, name, kind) });
  $('share-name').textContent = kind === 'text' ? 'A text' : its.name;
  $('share-size').textContent = `(${bytes(its.size)})`;
  $('link').value = '';
  $('countdown').textContent = '';
  $('share-state').textContent = 'Making a link\u2026';
  show('share');
  try {
    const wish = JSON.stringify({ download_headers: headers(its) });
    const answer = await fetch(`${STREAM}?strict=1&ttl=${TTL}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: wish });
    if (!answer.ok) return fail(its, ...await problem(answer));
    its.id = String((await answer.json()).stream);
  } catch {
    return fail(its, 'unreachable');
  }
  if (its !== job) return undefined;
  invite(its);
  upload(its);
  return watch(its, (now) => sending(its, now));
}

function invite(its) {
  // The id is behind the "#": it is not sent before somebody wants to receive, neither to the relay (and its log) nor
  // by a messenger that looks what is behind the link.
  const link = `${location.origin}${location.pathname}#${its.kind}=${its.id}`;
  $('link').value = link;
  $('share-curl').textContent = `curl ${its.kind === 'text' ? '' : '-OJ '}'${location.origin}${url(its.id)}?strict=1'`;
  $('share-link').hidden = !navigator.share;
  $('share-link').onclick = () => navigator.share({ url: link }).catch(() => {});
  $('share-state').textContent = 'Waiting for the other device.';
  $('copy-link').focus();
  const until = Date.now() + TTL * 1000;
  const tick = () => {
    const s = Math.max(0, Math.round((until - Date.now()) / 1000));
    $('countdown').textContent = `, within ${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')} minutes`;
  };
  tick();
  its.clock = setInterval(tick, 1000);
  fetch('/qr', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: link })
    .then((answer) => (answer.ok ? answer.blob() : null))
    .then((blob) => {
      if (!blob || its !== job) return;
      its.picture = URL.createObjectURL(blob);
      $('qr').src = its.picture;
      $('qr').hidden = false;
    })
    .catch(() => {});
}

function upload(its) {
  const xhr = new XMLHttpRequest();
  its.xhr = xhr;
  xhr.open('PUT', url(its.id));
  xhr.responseType = 'text';
  xhr.onload = () => {
    if (xhr.status === 200) return arrived(its);
    let name = '';
    try { name = JSON.parse(xhr.responseText).name; } catch { /* as above */ }
    return fail(its, xhr.status === 413 ? 'large' : cause(name));
  };
  // The answer may be lost with the connection, but the relay knows.
  xhr.onerror = async () => {
    let now = null;
    try { now = await status(its.id); } catch { return fail(its, 'unreachable'); }
    if (now && !now.active) return sending(its, now);
    // It still waits for us: then it was this side, and most likely the file.
    try { await its.blob.slice(0, 1).arrayBuffer(); } catch { return fail(its, 'unreadable'); }
    return fail(its, 'source');
  };
  // The file itself, not what is in it: the browser reads it as it goes out.
  xhr.send(its.blob);
}

function sending(its, now) {
  if (!now) return fail(its, 'gone');
  if (now.state === 'STREAMING') {
    moving(its, 'Sending', 'Keep this page open until everything has arrived.');
    return progress(its, Number(now.bytes_transferred));
  }
  if (now.state === 'FINISHED') return arrived(its);
  return now.active ? undefined : fail(its, cause(now.state));
}

// What is under way is broken off; who has not begun to receive is told.
function withdraw() {
  const its = stop();
  if (its?.role === 'sender' && its.id && !its.begun) tell(its.id, 'CancelledError', 'The sender has withdrawn it');
}

function arrived(its) {
  if (its !== job) return;
  const what = its.kind === 'text' ? 'The text' : its.name;
  if (its.kind === 'text') { $('words').value = ''; $('send-text').disabled = true; }
  const rate = its.begun && its.size > 1e6 ? ` in ${span((performance.now() - its.begun) / 1000)}` : '';
  finish(true, 'Sent', `${what} (${bytes(its.size)}) has gone to the other device${rate}.`);
}

// ---- Receiving

function receive(kind, id) {
  const its = begin({ role: 'receiver', kind, id, name: '', size: NaN });
  setTimeout(() => {
    if (its !== job || its.seen) return;
    moving(its, 'Looking for it', '');
    its.begun = 0;
  }, 400);
  watch(its, (now) => offered(its, now));
}

function offered(its, now) {
  if (!now) {
    // The record of what has ended is kept for a while only: this page was asleep.
    return fail(its, its.begun ? 'missed' : 'gone');
  }
  if (!its.seen) look(its, now);
  if (now.state === 'STREAMING') {
    if (!its.taken) return fail(its, 'used');
    return its.begun && progress(its, Number(now.bytes_transferred));
  }
  if (now.state === 'FINISHED') return its.taken ? ended(its) : fail(its, 'used');
  return now.active ? undefined : fail(its, cause(now.state));
}

// What the sender says it is.
function look(its, now) {
  its.seen = true;
  const said = (name) => {
    const fields = Object.entries(now.download_headers ?? {});
    return String(fields.find(([key]) => key.toLowerCase() === name)?.[1] ?? '');
  };
  const disposition = said('content-disposition');
  const encoded = /filename\*=UTF-8''([^;\s]+)/i.exec(disposition);
  const quoted = /filename="([^"]*)"/i.exec(disposition);
  let name = quoted ? quoted[1] : '';
  try { if (encoded) name = decodeURIComponent(encoded[1]); } catch { /* the other one, then */ }
  its.name = its.kind === 'text' ? 'A text' : plain(name) || 'A file';
  its.size = /^\d+$/.test(said('content-length')) ? Number(said('content-length')) : NaN;
  const isText = its.kind === 'text';
  $('offer-title').textContent = isText ? 'Somebody sends you a text' : 'Somebody sends you a file';
  $('offer-name').textContent = its.name;
  $('offer-size').textContent = its.size >= 0 ? bytes(its.size) : '';
  $('offer-curl').textContent = `curl ${isText ? '' : '-OJ '}'${location.origin}${url(its.id)}?strict=1'`;
  $('download').hidden = isText;
  $('download').href = `${url(its.id)}?strict=1`;
  $('show').hidden = !isText;
  if (now.active && now.state !== 'STREAMING') {
    show('offer');
    (isText ? $('show') : $('download')).focus();
  }
}

function ended(its) {
  if (its !== job || its.kind === 'text') return;
  history.replaceState(null, '', location.pathname);
  finish(true, 'Received', `${its.name}${its.size >= 0 ? ` (${bytes(its.size)})` : ''} is among this browser\u2019s downloads.`);
}

// The browser itself downloads, and saves as it goes.
$('download')?.addEventListener('click', () => {
  const its = job;
  if (!its || its.taken) return;
  its.taken = true;
  setTimeout(() => {
    if (its === job) moving(its, 'Receiving', 'Your browser saves it among its downloads, where you can cancel it, too.');
  });
});

$('show')?.addEventListener('click', async () => {
  const its = job;
  if (!its || its.taken) return;
  its.taken = true;
  its.abort = new AbortController();
  moving(its, 'Receiving', '');
  let text = '';
  try {
    const answer = await fetch(`${url(its.id)}?strict=1`, { signal: its.abort.signal, cache: 'no-store' });
    if (!answer.ok) { fail(its, ...await problem(answer)); return; }
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    for (let n = 0; ;) {
      const { done, value } = await reader.read();
      if (done) break;
      n += value.length;
      if (n > TEXT_SHOWN) { fail(its, 'long'); return; }
      text += decoder.decode(value, { stream: true });
    }
    text += decoder.decode();
  } catch {
    // The stream's status, which is watched, says why; this is for when it does not.
    await pause(3000);
    fail(its, 'source');
    return;
  }
  if (its !== job) return;
  stop();
  history.replaceState(null, '', location.pathname);
  $('text').textContent = text;
  show('message');
});

$('decline')?.addEventListener('click', () => {
  const its = stop();
  if (its) tell(its.id, 'DeclinedError', 'The receiver does not want it');
  history.replaceState(null, '', location.pathname);
  home();
});

// ---- Choosing

function home() {
  stop();
  $('refusal').hidden = true;
  $('file').value = '';
  show('home');
}

function refuse(why) {
  $('refusal').textContent = why;
  $('refusal').hidden = false;
}

function chosen(files, entry) {
  if ($('home').hidden) return;
  if (entry?.isDirectory) { refuse('A folder cannot be sent as it is: pack it into a ZIP file first.'); return; }
  if (files.length > 1) { refuse('One file at a time: pack several into a ZIP file first.'); return; }
  if (files.length === 1) send(files[0], files[0].name, 'file');
}

if (STREAM) {
  $('file').addEventListener('change', (event) => chosen(event.target.files));
  $('words').addEventListener('input', () => { $('send-text').disabled = $('words').value === ''; });
  $('words').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $('write').requestSubmit(); }
  });
  $('write').addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $('words').value;
    if (text === '') return;
    const blob = new Blob([text], { type: 'text/plain;charset=utf-8' });
    // What cannot be shown on the other side goes as a file.
    send(blob, 'text.txt', blob.size > TEXT_SHOWN ? 'file' : 'text');
  });
  // Anywhere on the page: what misses the box must not make the browser leave for the file.
  let inside = 0;
  const files = (event) => event.dataTransfer?.types.includes('Files');
  addEventListener('dragenter', (event) => { if (files(event)) { inside += 1; $('drop').classList.add('over'); } });
  addEventListener('dragleave', (event) => {
    if (files(event) && (inside -= 1) <= 0) { inside = 0; $('drop').classList.remove('over'); }
  });
  addEventListener('dragover', (event) => { if (files(event)) event.preventDefault(); });
  addEventListener('drop', (event) => {
    if (!files(event)) return;
    event.preventDefault();
    inside = 0;
    $('drop').classList.remove('over');
    chosen(event.dataTransfer.files, event.dataTransfer.items[0]?.webkitGetAsEntry?.());
  });
  addEventListener('paste', (event) => {
    if (event.clipboardData?.files.length) { event.preventDefault(); chosen(event.clipboardData.files); }
  });
  for (const button of document.querySelectorAll('[data-home]')) {
    button.addEventListener('click', () => { history.replaceState(null, '', location.pathname); home(); });
  }
  for (const button of document.querySelectorAll('[data-cancel]')) {
    button.addEventListener('click', () => { withdraw(); home(); });
  }
  // Leaving breaks off what is under way.
  addEventListener('beforeunload', (event) => { if (job?.role === 'sender' || (job?.taken && job.kind === 'text')) event.preventDefault(); });
  // A browser may keep a page that was left, with its connections; nobody shall wait for it.
  addEventListener('pagehide', () => { if (job?.role === 'sender') withdraw(); });
  addEventListener('pageshow', (event) => { if (event.persisted && !job) route(); });
  addEventListener('hashchange', route);
  route();
}

function route() {
  const link = /^#(file|text)=([A-Za-z0-9_-]+)$/.exec(location.hash);
  // A new link while something is sent from here: that goes before.
  if (job?.role === 'sender') return;
  if (link) receive(link[1], link[2]); else home();
}

// ---- Copying

async function copy(text) {
  // Browsers have a clipboard for pages by HTTPS only.
  try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way */ }
  const box = document.createElement('textarea');
  box.value = text;
  box.className = 'away';
  document.body.append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  return done;
}

for (const button of document.querySelectorAll('[data-copy]')) {
  const says = button.textContent;
  let back;
  button.addEventListener('click', async () => {
    const from = $(button.dataset.copy);
    const done = await copy(from.value ?? from.textContent);
    button.textContent = done ? 'Copied' : 'Select it, and copy by hand';
    button.focus();
    clearTimeout(back);
    back = setTimeout(() => { button.textContent = says; }, 2000);
  });
}
if (!STREAM) $('without').open = true;
