// Eclipse Paho Go as a device, over MQTT 3.1.1. The library connects again by itself; the program subscribes in OnConnect.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// The tasks' methods, as ../python/contract.py explains them.
const (
	event, poll, polled, eventQos2 = 52, 53, 54, 55
	nothing                        = "00000000-0000-0000-0000-000000000000"
)

type envelope struct {
	Task       string          `json:"correlationData,omitempty"`
	Method     int             `json:"method_code,omitempty"`
	StatusCode int             `json:"status_code,omitempty"`
	EventType  int             `json:"event_type_code,omitempty"`
	EventID    int             `json:"dev_event_id,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"`
}

var (
	sn     = os.Getenv("SN")
	dir    = os.Getenv("DIR")
	events = 0
)

func send(client mqtt.Client, level string, qos byte, message envelope) {
	body, err := json.Marshal(message)
	check(err)
	// The token is not waited for: this runs where the acknowledgement is read.
	client.Publish("dev/"+sn+"/"+level, qos, false, body)
}

func onMessage(client mqtt.Client, message mqtt.Message) {
	var had envelope
	check(json.Unmarshal(message.Payload(), &had))
	level := message.Topic()[strings.LastIndex(message.Topic(), "/")+1:]
	fmt.Println(level, had.Task, had.Method, string(had.Payload))
	if level == "tsk" && had.Method != polled {
		send(client, "req", 1, envelope{Task: had.Task})
	}
	if level != "rsp" || had.Task == nothing {
		return
	}
	if had.Method == event || had.Method == eventQos2 {
		events++
		qos := byte(1)
		if had.Method == eventQos2 {
			qos = 2
		}
		send(client, "evt", qos, envelope{EventType: 13, EventID: events, Payload: json.RawMessage(`{"300":[{"301":5}]}`)})
	}
	send(client, "res", 1, envelope{Task: had.Task, StatusCode: 200, Payload: had.Payload})
	if had.Method == poll || had.Method == polled {
		client.Publish("dev/"+sn+"/req", 1, false, []byte{})
	}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func main() {
	certificate, err := tls.LoadX509KeyPair(dir+"/cert.pem", dir+"/key.pem")
	check(err)
	ca, err := os.ReadFile(dir + "/ca.pem")
	check(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(ca)
	options := mqtt.NewClientOptions().
		AddBroker("ssl://" + os.Getenv("HOST") + ":" + os.Getenv("PORT")).
		SetClientID(sn).
		SetTLSConfig(&tls.Config{RootCAs: trusted, Certificates: []tls.Certificate{certificate}}).
		SetMaxReconnectInterval(10e9).
		SetOnConnectHandler(func(client mqtt.Client) { client.Subscribe("srv/"+sn+"/+", 1, onMessage) })
	token := mqtt.NewClient(options).Connect()
	token.Wait()
	check(token.Error())
	select {}
}
