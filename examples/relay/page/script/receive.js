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
    // The record of what has ended is kept for a while only: this page was asleep, if it has ever seen it move.
    return fail(its, its.moved ? 'missed' : 'gone');
  }
  if (!its.seen) look(its, now);
  if (now.state === 'STREAMING') {
    if (!its.taken) return fail(its, 'used');
    return its.begun && progress(its, Number(now.bytes_transferred));
  }
  if (now.state === 'FINISHED') return its.taken ? ended(its) : fail(its, 'used');
  if (now.active) return undefined;
  // Whether one who leaves before anything was taken has said so, or only closed the page, is all the same.
  const why = cause(now.state);
  return fail(its, why === 'source' && !its.taken ? 'cancelled' : why);
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
  its.name = its.kind === 'text' ? 'A text' : plain(name).slice(0, 255) || 'A file';
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

// The browser itself downloads, and saves as it goes: into a frame, which stays empty. If an answer is shown in there, it
// is none that is saved, but a refusal (somebody else was faster, say). What it says cannot be read, and need not: the
// stream's state says why.
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
    // The stream's state says why, a moment later.
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
  if (its) tell(its.id, 'DeclinedError', 'The receiver does not want it');
  history.replaceState(null, '', location.pathname);
  home();
});
