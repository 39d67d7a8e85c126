"""Ten faults, for real: `covey doctor` names each with what to do, and its alert fires in a Prometheus within a minute.

All servers fall ill within some seconds of each other, and the alerts are waited for together."""

import json
import time

import pytest

from testbed import fault_load
from testbed.patients import (
    KINDS,
    BackupOld,
    BrokerDown,
    CaEnds,
    CertificateEnds,
    DatabaseReadOnly,
    DiskFull,
    FileMode,
    Ward,
)
from testbed.prometheus import DEPLOYED, Prometheus

# From the fault to the alert.
ALERT_SECONDS_MAX = 60.0
# What the settings and the data directory tell of by themselves.
STOPPED_TOO = [BrokerDown, DiskFull, CertificateEnds, DatabaseReadOnly, FileMode, CaEnds, BackupOld]
# A running server looks every five seconds.
FOUND_SECONDS_MAX = 30.0


@pytest.fixture(scope="module")
def ward(own_services, tmp_path_factory):
    """The servers, ill, and the Prometheus that watches them; before they were, nothing was said of any."""
    folder = tmp_path_factory.mktemp("ward")
    ward = Ward(folder, own_services)
    prometheus = None
    try:
        ward.admit()
        prometheus = Prometheus(
            folder / "prometheus", {kind.__name__: one.metrics for kind, one in ward.patients.items()}
        )
        # Two looks of each server, and two scrapes of each look.
        time.sleep(20)
        for kind, patient in ward.patients.items():
            found = {one["code"] for one in patient.doctor()[1]}
            # What a machine's clock is kept by is the machine's.
            assert found <= {"clock_not_synchronised"}, f"{kind.__name__} is healthy: {found}"
            assert prometheus.firing(kind.__name__) == set(), kind.__name__
        ward.fall_ill()
        ward.wait_for_alerts(prometheus, ALERT_SECONDS_MAX)
        ward.prometheus = prometheus
        yield ward
    finally:
        if prometheus:
            prometheus.close()
        ward.close()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_fault_is_named_with_its_remedy_and_its_alert_fires(ward, kind):
    patient = ward.patients[kind]
    assert ward.alerted_after.get(kind, ALERT_SECONDS_MAX) < ALERT_SECONDS_MAX, ward.prometheus.firing(kind.__name__)
    fault_load.MEASURED.append(f"{kind.__name__}: {kind.alert} after {ward.alerted_after[kind]:.0f} s")
    deadline = time.monotonic() + FOUND_SECONDS_MAX
    while True:
        exit_code, found = patient.doctor()
        named = [one for one in found if one["code"] == kind.code]
        if named:
            break
        assert time.monotonic() < deadline, found
        time.sleep(1)
    assert any(patient.remedy in one["remedy"] for one in named), named
    assert named[0]["severity"] == kind.severity and all(one["seen"] and one["about"] for one in named), named
    assert exit_code == kind.exit_code, found
    if patient.server.is_running():
        over_rest = {one["code"] for one in patient.api().get("/health/findings").json()["findings"]}
        assert kind.code in over_rest, over_rest


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", STOPPED_TOO, ids=lambda kind: kind.__name__)
def test_the_fault_is_named_when_the_server_is_stopped_too(ward, kind):
    patient = ward.patients[kind]
    patient.server.stop()
    _, found = patient.doctor()
    named = [one for one in found if one["code"] in (kind.code, kind.stopped_code)]
    assert any(patient.remedy in one["remedy"] for one in named), found


@pytest.mark.timeout(60)
def test_each_expression_of_the_dashboard_is_one_that_prometheus_takes(ward):
    dashboard = json.loads((DEPLOYED / "covey-dashboard.json").read_text())
    answered = 0
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$instance", ".*").replace("$__rate_interval", "20s")
            answered += bool(ward.prometheus.query(expression))
    # Without devices that connect, some have nothing to show.
    assert answered > 25, answered
