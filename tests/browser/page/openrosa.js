// What a form program asks of an OpenRosa server, by fetch, from a page of another origin.

const FORM_LIST = "http://openrosa.org/xforms/xformsList";
const MANIFEST = "http://openrosa.org/xforms/xformsManifest";
const RESPONSE = "http://openrosa.org/http/response";
const HEADERS = { "X-OpenRosa-Version": "1.0" };

// The server's address stands behind the # of the page's own: a browser sends that part to nobody.
export const chosen = new URLSearchParams(location.hash.slice(1));
export const server = chosen.get("server");

/** Fetch an address of the server; an answer that is none of success becomes an error with the server's sentence. */
export async function get(address) {
  const answer = await fetch(address, { headers: HEADERS });
  if (!answer.ok) {
    throw new Error(`${answer.status}: ${await sentenceOf(answer)}`);
  }
  return answer;
}

async function elements(address, namespace, name) {
  const text = await (await get(address)).text();
  return [...new DOMParser().parseFromString(text, "text/xml").getElementsByTagNameNS(namespace, name)];
}

function child(element, name) {
  return element.getElementsByTagName(name)[0]?.textContent ?? "";
}

async function sentenceOf(answer) {
  const text = await answer.text();
  const found = new DOMParser().parseFromString(text, "text/xml").getElementsByTagNameNS(RESPONSE, "message")[0];
  return found?.textContent ?? text;
}

/** The forms that the server offers: id, name, and where form and manifest are. */
export async function formList() {
  const found = await elements(`${server}/formList`, FORM_LIST, "xform");
  return found.map((form) => ({
    id: child(form, "formID"),
    name: child(form, "name"),
    version: child(form, "version"),
    downloadUrl: child(form, "downloadUrl"),
    manifestUrl: child(form, "manifestUrl"),
  }));
}

/** A form's XML, and the addresses of its files by their names. */
export async function download(form) {
  const xml = await (await get(form.downloadUrl)).text();
  const files = form.manifestUrl ? await elements(form.manifestUrl, MANIFEST, "mediaFile") : [];
  return { xml, files: new Map(files.map((file) => [child(file, "filename"), child(file, "downloadUrl")])) };
}

/** Submit as form programs do: they ask first, then post. Returns status and the server's sentence. */
export async function submit(formData) {
  const address = `${server}/submission`;
  const asked = await fetch(address, { method: "HEAD", headers: HEADERS });
  if (asked.status !== 204) {
    throw new Error(`the server does not take submissions: ${asked.status}`);
  }
  const answer = await fetch(address, { method: "POST", headers: HEADERS, body: formData });
  return { status: answer.status, sentence: await sentenceOf(answer) };
}
