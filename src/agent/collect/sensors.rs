//! Temperatures and clock rates, where the machine tells them: virtual ones seldom do.

use super::{Files, Gathered, number};

/// `/sys/class/thermal`.
pub(super) fn thermal_zone(files: &Files, out: &mut Gathered) -> Result<(), String> {
    for folder in files.list("sys/class/thermal")? {
        let Some(zone) = folder.strip_prefix("thermal_zone") else {
            continue;
        };
        let read = |file: &str| files.sys(&format!("class/thermal/{folder}/{file}"));
        // A sensor that is asleep refuses to answer.
        let (Ok(kind), Ok(millis)) = (read("type"), read("temp")) else {
            continue;
        };
        let labels = &[("type", kind.trim()), ("zone", zone)];
        let help = "Zone temperature in Celsius.";
        out.gauge("node_thermal_zone_temp", help, labels, number(millis.trim())? / 1000.0);
    }
    Ok(())
}

/// `/sys/class/hwmon`: temperatures and fans.
pub(super) fn hwmon(files: &Files, out: &mut Gathered) -> Result<(), String> {
    for folder in files.list("sys/class/hwmon")? {
        let path = format!("class/hwmon/{folder}");
        let chip = files.sys(&format!("{path}/name")).unwrap_or_else(|_| folder.clone());
        let chip = chip.trim();
        let help = "Annotation metric for human-readable chip names.";
        out.gauge(
            "node_hwmon_chip_names",
            help,
            &[("chip", &folder), ("chip_name", chip)],
            1.0,
        );
        for file in files.list(&format!("sys/{path}"))? {
            let Some(sensor) = file.strip_suffix("_input") else {
                continue;
            };
            let Some(value) = files
                .sys(&format!("{path}/{file}"))
                .ok()
                .and_then(|text| number(text.trim()).ok())
            else {
                continue;
            };
            let labels = &[("chip", folder.as_str()), ("sensor", sensor)];
            if sensor.starts_with("temp") {
                let help = "Hardware monitor for temperature (input).";
                out.gauge("node_hwmon_temp_celsius", help, labels, value / 1000.0);
            } else if sensor.starts_with("fan") {
                out.gauge(
                    "node_hwmon_fan_rpm",
                    "Hardware monitor for fan revolutions per minute (input).",
                    labels,
                    value,
                );
            }
            if let Ok(label) = files.sys(&format!("{path}/{sensor}_label")) {
                let labels = &[("chip", folder.as_str()), ("label", label.trim()), ("sensor", sensor)];
                out.gauge(
                    "node_hwmon_sensor_label",
                    "Label for given chip and sensor.",
                    labels,
                    1.0,
                );
            }
        }
    }
    Ok(())
}

/// `/sys/devices/system/cpu/cpu*/cpufreq`, in kilohertz there.
pub(super) fn cpufreq(files: &Files, out: &mut Gathered) -> Result<(), String> {
    for folder in files.list("sys/devices/system/cpu")? {
        let cpu = folder.strip_prefix("cpu").unwrap_or("");
        if cpu.is_empty() || !cpu.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for (file, metric, help) in [
            (
                "scaling_cur_freq",
                "node_cpu_scaling_frequency_hertz",
                "Current scaled CPU thread frequency in hertz.",
            ),
            (
                "scaling_min_freq",
                "node_cpu_scaling_frequency_min_hertz",
                "Minimum scaled CPU thread frequency in hertz.",
            ),
            (
                "scaling_max_freq",
                "node_cpu_scaling_frequency_max_hertz",
                "Maximum scaled CPU thread frequency in hertz.",
            ),
        ] {
            let text = files.sys(&format!("devices/system/cpu/{folder}/cpufreq/{file}"));
            if let Some(kilohertz) = text.ok().and_then(|text| number(text.trim()).ok()) {
                out.gauge(metric, help, &[("cpu", cpu)], kilohertz * 1000.0);
            }
        }
    }
    Ok(())
}

/// `/proc/schedstat`: how long tasks ran and waited on each CPU.
pub(super) fn schedstat(text: &str, out: &mut Gathered) -> Result<(), String> {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(cpu) = words.next().and_then(|word| word.strip_prefix("cpu")) else {
            continue;
        };
        let numbers: Vec<f64> = words.map(number).collect::<Result<_, _>>()?;
        let [.., running, waiting, slices] = numbers[..] else {
            continue;
        };
        let labels = &[("cpu", cpu)];
        let help = "Number of seconds CPU spent running a process.";
        out.counter("node_schedstat_running_seconds_total", help, labels, running / 1e9);
        let help = "Number of seconds spent by processing waiting for this CPU.";
        out.counter("node_schedstat_waiting_seconds_total", help, labels, waiting / 1e9);
        out.counter(
            "node_schedstat_timeslices_total",
            "Number of timeslices executed by CPU.",
            labels,
            slices,
        );
    }
    Ok(())
}
