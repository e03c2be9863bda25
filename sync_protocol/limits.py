"""Every limit of the wire format, each with its reason. Sizes are bytes."""

from __future__ import annotations

from typing import Final

KIBIBYTE: Final = 1024

QUESTIONNAIRE_BYTES_MAX: Final = 10 * KIBIBYTE * KIBIBYTE
"""A questionnaire with photographs; larger ones are a mistake of the form."""

PART_BYTES_MAX: Final = 180 * KIBIBYTE
"""With content that does not compress, an envelope of this much body stays below ENVELOPE_BYTES_MAX."""

PARTS_MAX: Final = -(-QUESTIONNAIRE_BYTES_MAX // PART_BYTES_MAX)
"""Follows from the two above."""

ENVELOPE_BYTES_MAX: Final = 190 * KIBIBYTE
"""So that a bundle of BUNDLE_BYTES_MAX always has room for one, on every link."""

BUNDLE_BYTES_MAX: Final = 256 * KIBIBYTE
"""One MQTT message; a broken connection costs at most this much again."""

MEDIUM_BUNDLE_BYTES_MAX: Final = 16 * KIBIBYTE * KIBIBYTE
"""One file on a medium: a slow stick still yields complete ones."""

CONTENT_BUCKET_BYTES: Final = KIBIBYTE
"""Content is padded to a multiple of this, so that its size tells little of its answers."""

METADATA_BYTES_MAX: Final = 4 * KIBIBYTE
"""Eight short members; names of forms and instances are bounded below."""

NAME_CHARACTERS_MAX: Final = 250
"""Form, version and instance identifiers."""

ATTACHMENTS_MAX: Final = 1_000
"""Files of one questionnaire: a photograph of everything in a large household, and names and headers stay small."""

XFORM_BYTES_MAX: Final = 4 * KIBIBYTE * KIBIBYTE
"""Of a form as XML; the census household form in three languages has 214 KB. Deflated it must fit a statement."""

FORM_FILES_MAX: Final = 50
"""Pictures, sounds and lists of one form; every device has them all."""

FORM_FILE_BYTES_MAX: Final = 4 * KIBIBYTE * KIBIBYTE
"""Of one file of a form; a long list deflates twenty-fold. As it travels it must fit a statement."""

FORM_FILE_NAME_CHARACTERS_MAX: Final = 100
FORM_FILE_NAME_BYTES_MAX: Final = 200
"""A file's name stays below the 255 bytes of a file system while it passes under a longer one."""

FORM_TITLE_CHARACTERS_MAX: Final = 500
"""One line of a form program's list."""

COUNTED_LIST_BYTES_MAX: Final = 2 * KIBIBYTE * KIBIBYTE
"""Of a counted list as JSON: some ten thousand people. Deflated and sealed it must fit a statement."""

COUNTED_LIST_BUCKET_BYTES: Final = 4 * KIBIBYTE
"""A counted list is padded to a multiple of this, so that its size tells little of how many people are missing."""

DEVICE_KEY_CONTENT_BYTES: Final = 2 * KIBIBYTE
"""A device's recipient key, padded to the size of a small questionnaire."""

STATEMENT_BODY_BYTES_MAX: Final = 200 * KIBIBYTE
"""A statement travels in a bundle like an envelope."""

RECEIPT_SPANS_MAX: Final = 2_000
"""A chain has one span in good times and a few while envelopes overtake each other."""

RECEIPT_MARKS_MAX: Final = 8_000
"""All marks of a receipt; with 12 bytes each, a receipt at both limits stays below STATEMENT_BODY_BYTES_MAX."""

DEVICE_NAME_BYTES_MAX: Final = 64
"""One line of an operator's table."""

MEDIUM_TEXT_BYTES_MAX: Final = 64
"""Number and holder of a medium: each fits one line of an operator's table, and a label."""

MEDIUM_IDENTITY_BYTES_MAX: Final = 64 * KIBIBYTE
"""Two certificates take half a kilobyte; read whole from a medium that may be hostile."""

DELEGATED_SERIAL_MAX: Final = (1 << 32) - 1
"""Of medium certificates by a key that may sign nothing else; the authority's serials are greater: its word stays."""

NOTICE_FORM_BYTES_MAX: Final = 64
"""Of a form's id in a notice: with it a token has at most 269 characters, and its QR code stays small."""

JSON_DEPTH_MAX: Final = 64
"""A household questionnaire needs five levels; databases and parsers recurse on it."""

MESH_PAYLOAD_BYTES_MAX: Final = BUNDLE_BYTES_MAX + 256
"""One message between neighbours: a bundle and its number, with some room for what a later release says of it."""

MESH_BUNDLES_UNANSWERED_MAX: Final = 2
"""While one is written to disk the next is on its way; more would only fill the receiver's memory."""

MESH_OFFER_ENVELOPES_MAX: Final = 1_024
"""Of one offer: 40 KiB of ids for some megabytes of envelopes, and a few milliseconds of looking them up."""

MESH_INVENTORY_ITEMS_MAX: Final = 6_000
"""Of one inventory: 40 bytes each stay below MESH_PAYLOAD_BYTES_MAX."""

MESH_SHARDS: Final = 16
"""Into how many parts what a device knows is divided, so that one new receipt costs a sixteenth of the list."""
