"""The census's own forms in a database, and questionnaires of them committed to it without any cryptography."""

from __future__ import annotations

import functools

from central_broker.acceptance import read_answers, whole_decoder
from central_broker.content_decoding import content_of
from central_broker.forms.census import shipped_forms
from central_broker.forms.columns import tables_of
from central_broker.forms.registry import FormRegistry
from central_broker.forms.xform import read_xform
from central_broker.forms.xlsform import convert
from central_broker.reprocessing import known_forms
from central_broker.storage.batch_records import AcceptedEnvelope, Arrival, Batch, QuestionnaireContent, Route
from central_broker.storage.census_records import FormRecord
from central_broker.storage.contract import Storage
from tests.support.center import LinkChain


@functools.cache
def _xform(form: str) -> bytes:
    return convert(shipped_forms()[form]).xform


class CensusForms:
    """A database that knows the census's forms."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.versions: dict[str, str] = {}
        self._chains = {route: LinkChain(route.value) for route in Route}
        self._now = 0
        for form in shipped_forms():
            definition = read_xform(_xform(form))
            self.versions[form] = definition.version
            record = FormRecord(form, definition.version, definition.title, _xform(form), 1)
            storage.store_form(record, tables_of(definition).tables)
        self.registry: FormRegistry = known_forms(storage, FormRegistry())

    def commit(self, *bodies: bytes, route: Route = Route.VPN, created_at: int = 1) -> None:
        """Commit questionnaires in one transaction, after all before."""
        self._now += 1
        batch = Batch([self._accepted(body, route, created_at) for body in bodies])
        self.storage.commit(batch, whole_decoder(self.registry), self._now)

    def _accepted(self, body: bytes, route: Route, created_at: int) -> AcceptedEnvelope:
        content = content_of("text/xml", body)
        head = read_head(body)
        answers = read_answers(*head[:2], content, self.registry)
        assert answers is not None
        chain = self._chains[route]
        return AcceptedEnvelope(
            chain.link(),
            Arrival(chain.origin, route, 1),
            b"data",
            QuestionnaireContent(*head, "text/xml", created_at, body, content, answers),
        )


def read_head(body: bytes) -> tuple[str, str, str]:
    """Form, version and instance id of a questionnaire of `institution`."""
    text = body.decode()
    form, version = text.split("'")[1], text.split("'")[3]
    return form, version, text.partition("<instanceID>")[2].partition("<")[0]
