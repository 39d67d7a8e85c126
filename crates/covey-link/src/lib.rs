//! Links between Covey and its devices: the wire form and the embedded MQTT 5 broker.
