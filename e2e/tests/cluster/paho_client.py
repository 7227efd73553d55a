"""A stock Paho client with tls_set: publishes what it is given at QoS 1, and subscribes.

    paho_client.py HOST PORT FOLDER TOPIC MESSAGE FILTER
"""

import sys
import threading

import paho.mqtt.client as mqtt

host, port, folder, topic, message, subscription = sys.argv[1:]
done = {"connected": threading.Event(), "subscribed": threading.Event()}


def connected(client, userdata, flags, reason, properties):
    print("connected:", reason)
    done["connected"].set()


def subscribed(client, userdata, mid, reasons, properties):
    print("subscribed:", *reasons)
    done["subscribed"].set()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect = connected
client.on_subscribe = subscribed
client.tls_set(f"{folder}/ca.crt", f"{folder}/tls.crt", f"{folder}/tls.key")
client.connect(host, int(port))
client.loop_start()
if not done["connected"].wait(10):
    sys.exit("no CONNACK")
client.subscribe(subscription, qos=1)
if not done["subscribed"].wait(10):
    sys.exit("no SUBACK")
published = client.publish(topic, message, qos=1)
published.wait_for_publish(10)
print("published:", published.is_published())
client.disconnect()
