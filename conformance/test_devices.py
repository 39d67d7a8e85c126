"""The registry of devices (rest-api.md "Devices")."""

import datetime
import json
import time
import uuid

import pytest

from testbed.api import is_problem


def wait_until_online(api, device, seconds: float = 5.0) -> None:
    """That a device connected is stored a moment after it did."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
        if row["connection"] and row["connection"]["last_checked_result"]:
            return
        time.sleep(0.02)
    raise AssertionError(f"{device.sn} does not show as online")


def test_a_device_has_the_fields_of_the_contract(api, device):
    wait_until_online(api, device)
    assert "tag_id" in api.put(f"/devices/{device.device_id}", json={"tag": "site", "value": "Riga"}).json()
    (row,) = api.get("/devices", params={"device_id": device.device_id}).json()
    assert (row["device_id"], row["sn"], row["device_gauges"]) == (device.device_id, device.sn, [])
    assert row["device_tags"] == [{"tag": "site", "value": "Riga"}] and "id" in row
    connection = row["connection"]
    assert (connection["device_id"], connection["client_id"]) == (device.device_id, device.sn)
    assert connection["last_checked_result"] is True
    for name in ("connected_at", "checked_at"):
        datetime.datetime.fromisoformat(connection[name])


def test_devices_are_found_by_serial_number_tag_and_presence(api, server, connect, identity, tmp_path):
    tag = uuid.uuid4().hex
    tagged = [api.register(tmp_path, tags=[{"tag": tag, "value": str(index)}]) for index in range(3)]
    connect(server, tagged[1])

    def found(**params) -> list[int]:
        return sorted(row["device_id"] for row in api.get("/devices", params=params).json())

    everyone = sorted(one.device_id for one in tagged)
    assert found(sn=identity.sn) == [identity.device_id]
    assert found(tag=tag) == everyone
    wait_until_online(api, tagged[1])
    assert found(tag=tag, online="true") == [tagged[1].device_id]
    assert found(tag=tag, online="false") == sorted([tagged[0].device_id, tagged[2].device_id])
    assert len(found(tag=tag, page=1, size=2)) == 2 and len(found(tag=tag, page=2, size=2)) == 1


def test_a_second_registration_of_a_serial_number_is_a_conflict(api, other_api, identity):
    assert is_problem(api.post("/devices", json={"sn": identity.sn}), 409)
    assert is_problem(other_api.post("/devices", json={"sn": identity.sn}), 409)
    assert is_problem(api.post("/devices", json={"device_id": identity.device_id}), 409)


def test_serial_number_and_number_are_made_where_none_is_given(api):
    first, second = api.post("/devices", json={}).json(), api.post("/devices", json={}).json()
    for made in (first, second):
        assert made["device"]["sn"] and made["device"]["device_id"] >= 1
        assert "PRIVATE KEY" in made["private_key_pem"]
        assert made["certificate_pem"].count("BEGIN CERTIFICATE") == 2 and "BEGIN CERTIFICATE" in made["ca_pem"]
    assert first["device"]["device_id"] != second["device"]["device_id"]
    assert "private_key_pem" not in json.dumps(api.get("/devices", params={"sn": first["device"]["sn"]}).json())


@pytest.mark.parametrize("sn", ["", "a/b", "a.b", "a b", "+", "#", "ü", "x" * 65])
def test_a_serial_number_outside_its_alphabet_is_refused(api, sn):
    assert is_problem(api.post("/devices", json={"sn": sn}), 422)


def test_a_retired_device_is_gone_with_its_tasks_for_callers(api, identity):
    assert api.delete(f"/devices/{identity.device_id}").status_code in (200, 204)
    assert api.get("/devices", params={"device_id": identity.device_id}).json() == []
    assert is_problem(api.request_task(identity), 404)
    assert is_problem(api.delete(f"/devices/{identity.device_id}"), 404)
