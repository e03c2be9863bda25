"""The form list and the manifest, as XML (https://docs.getodk.org/openrosa-form-list/)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

from edge_agent.queue.intake.openrosa.forms import Form

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def form_list(forms: Sequence[Form], base: str) -> bytes:
    """Return the form list; `base` is the address before `/forms`."""
    return (
        f'{_DECLARATION}<xforms xmlns="http://openrosa.org/xforms/xformsList">'
        + "".join(_form(form, f"{base}/forms/{quote(form.key, safe='')}") for form in forms)
        + "</xforms>\n"
    ).encode()


def _form(form: Form, address: str) -> str:
    manifest = _element("manifestUrl", f"{address}/manifest") if form.media else ""
    return (
        "<xform>"
        + _element("formID", form.form)
        + _element("name", form.title)
        + _element("version", form.version)
        + _element("hash", f"md5:{form.md5}")
        + _element("downloadUrl", f"{address}/form.xml")
        + manifest
        + "</xform>"
    )


def manifest(form: Form, base: str) -> bytes:
    """Return what belongs to one form."""
    address = f"{base}/forms/{quote(form.key, safe='')}/media"
    files = "".join(
        "<mediaFile>"
        + _element("filename", each.name)
        + _element("hash", f"md5:{each.md5}")
        + _element("downloadUrl", f"{address}/{quote(each.name, safe='')}")
        + "</mediaFile>"
        for each in form.media
    )
    return f'{_DECLARATION}<manifest xmlns="http://openrosa.org/xforms/xformsManifest">{files}</manifest>\n'.encode()


def _element(name: str, text: str) -> str:
    visible = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"<{name}>{escape(visible)}</{name}>"
