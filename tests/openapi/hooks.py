"""What schemathesis cannot know from the description, each with its reason."""

import datetime
import uuid

import schemathesis
from hypothesis import strategies as st

EXAMPLE_KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"

# The latest date of birth is that of the day, and a schema is the same every day.
BIRTHS = st.dates(datetime.date(1850, 1, 1), datetime.date.today())
schemathesis.openapi.format("date", BIRTHS.map(str))
# The longest password is counted in bytes, but a schema counts characters.
ASCII = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
schemathesis.openapi.format("password", st.text(ASCII, min_size=8, max_size=71))
# A schema calls both formats of an import text, and cannot say what its lines are.
LETTERS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=200)
PATIENTS = st.lists(st.tuples(LETTERS, st.integers(0, 150)))


def lines(patients, line, header=b""):
    return header + b"".join(line.format(*patient).encode() for patient in patients)


schemathesis.openapi.media_type(
    "application/x-ndjson",
    PATIENTS.map(lambda patients: lines(patients, '{{"name":"{}","age":{}}}\n')),
)
schemathesis.openapi.media_type(
    "text/csv", PATIENTS.map(lambda patients: lines(patients, "{},{}\r\n", b"name,age\r\n"))
)


@schemathesis.hook
def map_body(context, body):
    """A schema cannot say that two fields must be equal. What is no text is wrong on purpose."""
    if isinstance(body, dict) and "password" in body:
        if isinstance(body.get("password_confirm"), str):
            body["password_confirm"] = body["password"]
    return body


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Whether a failure counts."""
    if case.path == "/api/patients/{id}" and case.path_parameters["id"] in ("export", "import"):
        # A link that schemathesis infers makes ids of the links in the index. It is another path.
        return False
    if case.method == "OPTIONS" and failure.code == "ST301":
        # "Deleted resource still available": OPTIONS tells of the path, whatever is kept there.
        return False
    if response.status_code != 422:
        return True
    if response.json()["code"] == "idempotency_key_reused":
        # Any key is well-formed, but schemathesis sends short ones with different requests.
        return False
    if not isinstance(case.body, dict):
        return True
    # The code of "schema-valid request rejected": each bad field must be one of which a schema says
    # less than the service.
    def excused(error):
        value = case.body.get(error["field"])
        return (
            # Must equal `password`, which map_body does not reach in every phase.
            error["field"] == "password_confirm"
            # A schema takes 1.0 for an integer; the service wants it written whole.
            or isinstance(value, float)
        )

    return not all(map(excused, response.json()["errors"]))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Headers that schemathesis would send, but cannot or should not."""
    for name, value in (case.headers or {}).items():
        if isinstance(value, int):
            # A link that it infers gives the number of a record to X-Request-Id.
            case.headers[name] = str(value)
        if name == "Idempotency-Key" and value == EXAMPLE_KEY:
            # It sends the example with different requests, of which all but the first are refused.
            case.headers[name] = str(uuid.uuid4())
