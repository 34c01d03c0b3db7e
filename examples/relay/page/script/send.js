// ---- Sending

function headers(its) {
  // RFC 6266: an ASCII name for old clients, and the real one.
  const ascii = its.name.normalize('NFKD').replace(/[\u0300-\u036f]/g, '').replace(/[^ -~]|["\\%;]/g, '_');
  const name = its.name.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, '_');
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
  return {
    'Content-Type': its.kind === 'text' ? 'text/plain; charset=utf-8' : its.blob.type || 'application/octet-stream',
    'Content-Disposition': `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`,
    'Content-Length': String(its.size),
  };
}

// Creates a stream. Returns the response.
const create = (options) => fetch(`${STREAM}?strict=1&ttl=${TTL}`, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(options),
});

async function send(blob, name, kind) {
  const its = begin({ role: 'sender', kind, blob, name: plain(name) || 'file', size: blob.size, again: () => send(blob, name, kind) });
  $('share-name').textContent = kind === 'text' ? 'A text' : its.name;
  $('share-size').textContent = `(${bytes(its.size)})`;
  $('link').value = '';
  $('countdown').textContent = '';
  $('share-state').textContent = 'Creating a link\u2026';
  $('live').classList.remove('opened');
  show('share');
  try {
    // A second stream, without content: the receiver's page finds its id in the status of the first, and uses it to
    // report that the link was opened. Without it, sending works all the same.
    const notice = await create({});
    if (notice.ok) its.notice = String((await notice.json()).stream);
    const upload = its.notice && { [OPENED]: its.notice };
    const response = await create({ download_headers: headers(its), upload_headers: upload });
    if (!response.ok) return fail(its, ...await rejection(response));
    its.id = String((await response.json()).stream);
  } catch {
    return fail(its, 'unreachable');
  }
  if (its !== job) return undefined;
  invite(its);
  upload(its);
  awaitOpening(its);
  return watch(its, (now) => sending(its, now));
}

function invite(its) {
  // The id follows the "#", so it is not sent before the receiver requests the file. Neither the relay (and its log)
  // nor a messenger that previews the link gets it earlier.
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
    $('countdown').textContent = `, for another ${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')} minutes`;
  };
  tick();
  its.clock = setInterval(tick, 1000);
  fetch('/qr', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body: link })
    .then((response) => (response.ok ? response.blob() : null))
    .then((blob) => {
      if (!blob || its !== job) return;
      its.picture = URL.createObjectURL(blob);
      $('qr').src = its.picture;
      $('qr').hidden = false;
    })
    .catch(() => {});
}

// Shows that the link was opened, when the receiver's page reports it.
async function awaitOpening(its) {
  if (!its.notice) return;
  its.hold = new AbortController();
  try {
    const response = await fetch(url(its.notice), { signal: its.hold.signal, cache: 'no-store' });
    if (!response.ok || its !== job || its.begun) return;
  } catch {
    return;
  }
  $('share-state').textContent = 'The link was opened. Waiting for the receiver to accept.';
  $('live').classList.add('opened');
  document.title = 'The link was opened \u00b7 Relay';
}

function upload(its) {
  const xhr = new XMLHttpRequest();
  its.xhr = xhr;
  xhr.open('PUT', url(its.id));
  xhr.responseType = 'text';
  xhr.onload = () => {
    if (xhr.status === 200) return arrived(its);
    return fail(its, cause(errorName(xhr.responseText), xhr.status));
  };
  // The response may be lost with the connection; the relay's status shows the result.
  xhr.onerror = async () => {
    let now = null;
    try { now = await status(its.id); } catch { return fail(its, its.moved ? 'stopped' : 'unreachable'); }
    if (now && !now.active) return sending(its, now);
    // The stream still waits for the sender, so the error was here, most likely the file.
    try { await its.blob.slice(0, 1).arrayBuffer(); } catch { return fail(its, 'unreadable'); }
    return fail(its, 'source');
  };
  // The file itself, not its content: the browser reads it while it sends.
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

// Aborts the transfer; a receiver that has not begun gets an error.
function cancel() {
  const its = stop();
  if (its?.role === 'sender' && its.id && !its.begun) sendError(its.id, 'CancelledError', 'The sender has cancelled');
}

function arrived(its) {
  if (its !== job) return;
  const name = its.kind === 'text' ? 'The text' : its.name;
  if (its.kind === 'text') { $('words').value = ''; $('send-text').disabled = true; }
  const rate = its.begun && its.size > 1e6 ? ` in ${span((performance.now() - its.begun) / 1000)}` : '';
  finish(true, 'Sent', `${name} (${bytes(its.size)}) has arrived at the other device${rate}.`);
}
