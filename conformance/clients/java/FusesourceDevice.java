/* FuseSource's mqtt-client as a device, over MQTT 3.1.1 (the library's default is 3.1). It connects and subscribes
 * again by itself. */
import java.io.ByteArrayInputStream;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.*;
import java.util.regex.*;
import javax.net.ssl.*;
import org.fusesource.mqtt.client.*;

public class FusesourceDevice {
    static final int EVENT = 52, POLL = 53, POLLED = 54, EVENT_QOS_2 = 55;
    static final String NOTHING = "00000000-0000-0000-0000-000000000000";
    static final String SN = System.getenv("SN"), DIR = System.getenv("DIR");
    static int events = 0;
    static FutureConnection connection;

    static byte[] pem(String name) throws Exception {
        String text = Files.readString(Path.of(DIR, name)).replaceAll("-----[A-Z ]+-----|\\s", "");
        return Base64.getDecoder().decode(text);
    }

    static SSLContext tls() throws Exception {
        CertificateFactory x509 = CertificateFactory.getInstance("X.509");
        var chain = x509.generateCertificates(Files.newInputStream(Path.of(DIR, "cert.pem")));
        String algorithm = chain.iterator().next().getPublicKey().getAlgorithm();
        PrivateKey key = KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(pem("key.pem")));
        KeyStore own = KeyStore.getInstance("PKCS12"), trusted = KeyStore.getInstance("PKCS12");
        own.load(null, null);
        own.setKeyEntry("device", key, new char[0], chain.toArray(new java.security.cert.Certificate[0]));
        trusted.load(null, null);
        trusted.setCertificateEntry("ca", x509.generateCertificate(new ByteArrayInputStream(pem("ca.pem"))));
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(own, new char[0]);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    static String find(String pattern, String text, String otherwise) {
        Matcher found = Pattern.compile(pattern).matcher(text);
        return found.find() ? found.group(1) : otherwise;
    }

    static void send(String level, QoS qos, String body) {
        connection.publish("dev/" + SN + "/" + level, body.getBytes(), qos, false);
    }

    static void answer(String level, String body) {
        String task = find("\"correlationData\":\"([^\"]+)\"", body, NOTHING);
        int method = Integer.parseInt(find("\"method_code\":(\\d+)", body, "0"));
        // Enough for this suite's parameters; a device has a JSON library.
        String payload = find("\"payload\":(\\{.*\\})\\}$", body, "null");
        System.out.println(level + " " + task + " " + method + " " + payload);
        if (level.equals("tsk") && method != POLLED)
            send("req", QoS.AT_LEAST_ONCE, "{\"correlationData\":\"" + task + "\"}");
        if (!level.equals("rsp") || task.equals(NOTHING))
            return;
        if (method == EVENT || method == EVENT_QOS_2)
            send("evt", method == EVENT_QOS_2 ? QoS.EXACTLY_ONCE : QoS.AT_LEAST_ONCE,
                "{\"event_type_code\":13,\"dev_event_id\":" + ++events + ",\"payload\":{\"300\":[{\"301\":5}]}}");
        send("res", QoS.AT_LEAST_ONCE, "{\"correlationData\":\"" + task + "\",\"status_code\":200,\"payload\":" + payload + "}");
        if (method == POLL || method == POLLED)
            send("req", QoS.AT_LEAST_ONCE, "");
    }

    public static void main(String[] arguments) throws Exception {
        MQTT mqtt = new MQTT();
        mqtt.setHost("ssl://" + System.getenv("HOST") + ":" + System.getenv("PORT"));
        mqtt.setSslContext(tls());
        mqtt.setClientId(SN);
        mqtt.setVersion("3.1.1");
        connection = mqtt.futureConnection();
        connection.connect().await();
        connection.subscribe(new Topic[] {new Topic("srv/" + SN + "/+", QoS.AT_LEAST_ONCE)}).await();
        while (true) {
            Message message = connection.receive().await();
            String topic = message.getTopic();
            answer(topic.substring(topic.lastIndexOf('/') + 1), new String(message.getPayload()));
            message.ack();
        }
    }
}
