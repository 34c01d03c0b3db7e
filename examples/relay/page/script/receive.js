// ---- Receiving

function receive(kind, id) {
  const its = begin({ role: 'receiver', kind, id, name: '', size: NaN });
  setTimeout(() => {
    if (its !== job || its.seen) return;
    moving(its, 'Looking up the link', '');
    its.begun = 0;
  }, 400);
  watch(its, (now) => offered(its, now));
}

function offered(its, now) {
  if (!now) {
    // The record of an ended stream expires. If this page saw the transfer, it was suspended at its end.
    return fail(its, its.moved ? 'missed' : 'gone');
  }
  if (!its.seen) readFields(its, now);
  if (now.state === 'STREAMING') {
    if (!its.taken) return fail(its, 'used');
    return its.begun && progress(its, Number(now.bytes_transferred));
  }
  if (now.state === 'FINISHED') return its.taken ? ended(its) : fail(its, 'used');
  if (now.active) return undefined;
  // A sender that disconnects before the download began has cancelled, whether it sent an error or closed the page.
  const ending = cause(now.state);
  return fail(its, ending === 'source' && !its.taken ? 'cancelled' : ending);
}

// Reads name and size from the sender's fields.
function readFields(its, now) {
  its.seen = true;
  const field = (name, of = now.download_headers) => {
    const fields = Object.entries(of ?? {});
    return String(fields.find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1] ?? '');
  };
  const disposition = field('content-disposition');
  const encoded = /filename\*=UTF-8''([^;\s]+)/i.exec(disposition);
  const quoted = /filename="([^"]*)"/i.exec(disposition);
  let name = quoted ? quoted[1] : '';
  try { if (encoded) name = decodeURIComponent(encoded[1]); } catch { /* keep the quoted name */ }
  its.name = its.kind === 'text' ? 'A text' : plain(name).slice(0, 255) || 'A file';
  its.size = /^\d+$/.test(field('content-length')) ? Number(field('content-length')) : NaN;
  const isText = its.kind === 'text';
  $('offer-title').textContent = isText ? 'Receive a text' : 'Receive a file';
  $('offer-name').textContent = its.name;
  $('offer-size').textContent = its.size >= 0 ? bytes(its.size) : '';
  $('offer-curl').textContent = `curl ${isText ? '' : '-OJ '}'${location.origin}${url(its.id)}?strict=1'`;
  $('download').hidden = isText;
  $('download').href = `${url(its.id)}?strict=1`;
  $('show').hidden = !isText;
  if (now.active && now.state !== 'STREAMING') {
    show('offer');
    (isText ? $('show') : $('download')).focus();
    const notice = field(OPENED, now.upload_headers);
    if (/^[A-Za-z0-9_-]+$/.test(notice)) reportOpening(its, notice);
  }
}

// Reports to the sender's page that the link was opened, once the page is visible: browsers also load pages in advance.
// Programs that preview links run no script.
async function reportOpening(its, notice) {
  while (document.visibilityState !== 'visible') {
    await new Promise((resume) => document.addEventListener('visibilitychange', resume, { once: true }));
  }
  // The body is empty. Only the first report arrives: a link can be opened again.
  if (its === job) fetch(url(notice), { method: 'PUT', body: '' }).catch(() => {});
}

function ended(its) {
  if (its !== job || its.kind === 'text') return;
  history.replaceState(null, '', location.pathname);
  finish(true, 'Received', `${its.name}${its.size >= 0 ? ` (${bytes(its.size)})` : ''} is in this browser\u2019s downloads.`);
}

// The browser downloads and saves the file itself, from a frame that stays empty. If the frame loads a document, that is an
// error response (another receiver was faster, for instance). The page cannot read it; the stream's state has the cause.
$('frame')?.addEventListener('load', async () => {
  const its = job;
  if (!its?.taken || its.kind !== 'file') return;
  fail(its, await reason(its, ({ state }) => (state === 'STREAMING' || state === 'FINISHED' ? 'used' : 'other')));
});

$('download')?.addEventListener('click', () => {
  const its = job;
  if (!its || its.taken) return;
  its.taken = true;
  setTimeout(() => {
    if (its === job) moving(its, 'Receiving', 'Your browser saves it in its downloads, where you can also cancel it.');
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
    const response = await fetch(`${url(its.id)}?strict=1`, { signal: its.abort.signal, cache: 'no-store' });
    if (!response.ok) { fail(its, ...await rejection(response)); return; }
    const reader = response.body.getReader();
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
    // The stream's state shows the cause a moment later.
    await pause(1000);
    fail(its, await reason(its, () => 'source'));
    return;
  }
  if (its !== job) return;
  stop();
  history.replaceState(null, '', location.pathname);
  $('text').textContent = text;
  const link = text.trim();
  $('visit').hidden = !/^https?:\/\/\S+$/i.test(link);
  $('visit').href = $('visit').hidden ? '#' : link;
  show('message');
});

$('decline')?.addEventListener('click', () => {
  const its = stop();
  if (its) sendError(its.id, 'DeclinedError', 'The receiver declined');
  history.replaceState(null, '', location.pathname);
  home();
});
