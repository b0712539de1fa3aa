//! `/sys/class/net`: what each network device is and in which state.

use super::{Files, Gathered, number};

/// A file of a device's folder and its metric. Values may be hexadecimal.
struct Property {
    file: &'static str,
    metric: &'static str,
    is_counter: bool,
}

const fn gauge(file: &'static str, metric: &'static str) -> Property {
    Property {
        file,
        metric,
        is_counter: false,
    }
}

const fn counter(file: &'static str, metric: &'static str) -> Property {
    Property {
        file,
        metric,
        is_counter: true,
    }
}

static PROPERTIES: &[Property] = &[
    gauge("addr_assign_type", "node_network_address_assign_type"),
    gauge("carrier", "node_network_carrier"),
    counter("carrier_changes", "node_network_carrier_changes_total"),
    counter("carrier_down_count", "node_network_carrier_down_changes_total"),
    counter("carrier_up_count", "node_network_carrier_up_changes_total"),
    gauge("dev_id", "node_network_device_id"),
    gauge("dormant", "node_network_dormant"),
    gauge("flags", "node_network_flags"),
    gauge("ifindex", "node_network_iface_id"),
    gauge("iflink", "node_network_iface_link"),
    gauge("link_mode", "node_network_iface_link_mode"),
    gauge("mtu", "node_network_mtu_bytes"),
    gauge("name_assign_type", "node_network_name_assign_type"),
    gauge("netdev_group", "node_network_net_dev_group"),
    gauge("type", "node_network_protocol_type"),
    gauge("tx_queue_len", "node_network_transmit_queue_length"),
];

/// State, speed, size and kind of each device.
pub(super) fn netclass(files: &Files, out: &mut Gathered) -> Result<(), String> {
    for name in files.list("sys/class/net")? {
        // Some files refuse to be read while the device is down.
        let read = |file: &str| {
            let text = files.sys(&format!("class/net/{name}/{file}")).ok();
            text.map(|text| text.trim().to_owned())
        };
        let Some(state) = read("operstate") else { continue };
        let labels = &[("device", name.as_str())];
        let up = f64::from(u8::from(state == "up"));
        out.gauge(
            "node_network_up",
            "Value is 1 if operstate is 'up', 0 otherwise.",
            labels,
            up,
        );
        for property in PROPERTIES {
            let Some(value) = read(property.file).and_then(|text| any_number(&text)) else {
                continue;
            };
            let help = format!("Network device property: {}.", property.file);
            if property.is_counter {
                out.counter(property.metric, &help, labels, value);
            } else {
                out.gauge(property.metric, &help, labels, value);
            }
        }
        // In megabits; -1 and errors say that the device has no speed.
        let speed = read("speed")
            .and_then(|text| number(&text).ok())
            .filter(|speed| *speed >= 0.0);
        if let Some(speed) = speed {
            let help = "Network device property: speed_bytes.";
            out.gauge("node_network_speed_bytes", help, labels, speed * 1e6 / 8.0);
        }
        let text = |file: &str| read(file).unwrap_or_default();
        let (address, broadcast) = (text("address"), text("broadcast"));
        let (duplex, alias) = (text("duplex"), text("ifalias"));
        let labels = &[
            ("address", address.as_str()),
            ("broadcast", &broadcast),
            ("device", &name),
            ("duplex", &duplex),
            ("ifalias", &alias),
            ("operstate", &state),
        ];
        let help = "Non-numeric data of a network device, value is always 1.";
        out.gauge("node_network_info", help, labels, 1.0);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "flags and numbers of devices are small")]
fn any_number(text: &str) -> Option<f64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as f64),
        None => number(text).ok(),
    }
}
