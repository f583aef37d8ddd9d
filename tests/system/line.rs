//! The line end to end: parts, verdicts, outputs, sources.

use crate::program::*;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

#[test]
fn the_demonstration_names_every_part_and_pulses_the_right_line() {
    let out = finish(tagpin(&["run", "--json", "--parts", "10", "--source", &fast_conveyor(21)]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let all = events(&out);
    let s = summary(&all);
    assert_eq!((s["parts"].as_u64(), s["truth"]["right"].as_u64()), (Some(10), Some(10)), "{s}");
    for part in of(&all, "part") {
        let line = if part["action"] == "reject" { "reject_gate" } else { "good" };
        let edges: Vec<&Value> = of(&all, "edge").into_iter().filter(|e| e["part"] == part["part"]).collect();
        assert_eq!(edges.len(), 2, "one pulse for {part}: {edges:?}");
        assert!(edges.iter().all(|e| e["line"] == line), "{edges:?}");
        // A pulse has its full width from when it was done.
        let width = if line == "good" { 40_000 } else { 80_000 };
        let [due, end] = [edges[0], edges[1]].map(|e| e["scheduled"].as_u64().unwrap());
        let done = edges[0]["done"].as_u64().unwrap();
        assert!((due + width..=done + width).contains(&end), "{edges:?}");
        assert!(part["age"].as_u64().unwrap() >= part["latency"]["infer"].as_u64().unwrap());
    }
}

#[test]
fn a_folder_of_images_runs_to_its_end_and_none_is_skipped() {
    let folder = folder("dir");
    for i in 0..6u8 {
        tagpin::pictures::Picture::write_png(&folder.join(format!("{i}.png")), 40, 30, &vec![i * 40; 40 * 30 * 3]).unwrap();
    }
    std::fs::write(folder.join("3x.jpg"), b"\xff\xd8broken").unwrap();
    let source = format!("dir:{}", folder.display());
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--source", &source]));
    let all = events(&out);
    let s = summary(&all);
    assert_eq!(
        (s["parts"].as_u64(), s["faults"]["corrupt"].as_u64(), s["ended"].as_str()),
        (Some(6), Some(1), Some("done")),
        "{s}"
    );
}

/// Y4M of conveyor frames in three chroma layouts must name the same part.
#[test]
fn y4m_files_of_three_layouts_and_standard_input_are_read() {
    use tagpin::scene::{Conditions, HEIGHT, Kind, Shot, WIDTH, render};
    let mut rgb = vec![0; WIDTH * HEIGHT * 3];
    render(&Shot::draw(Kind::Bracket, &Conditions::TRAINING, 4, 4), 0, &mut rgb);
    // Grey from green: enough for a shape.
    let luma: Vec<u8> = rgb.chunks(3).map(|p| 16 + (p[1] as u32 * 219 / 255) as u8).collect();
    let folder = folder("y4m");
    for (chroma, extra) in [("420jpeg", WIDTH * HEIGHT / 2), ("422", WIDTH * HEIGHT), ("mono", 0)] {
        let mut bytes = format!("YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 Ip C{chroma}\n").into_bytes();
        for _ in 0..3 {
            bytes.extend(b"FRAME\n");
            bytes.extend(&luma);
            bytes.extend(vec![128; extra]);
        }
        let path = folder.join(chroma);
        std::fs::write(&path, &bytes).unwrap();
        let source = format!("y4m:{}", path.display());
        let all = events(&finish(tagpin(&["run", "--bundle", PARTS, "--json", "--source", &source])));
        assert_eq!(summary(&all)["by_tag"]["bracket"], 3, "{chroma}");
        let mut child = tagpin(&["run", "--bundle", PARTS, "--json", "--source", "y4m:-"]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A pipe is live: its frames are taken as they come, the newest wins, and its end is no
        // success.
        let mut stdin = child.stdin.take().unwrap();
        let header = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        stdin.write_all(&bytes[..header]).unwrap();
        for frame in bytes[header..].chunks((bytes.len() - header) / 3) {
            stdin.write_all(frame).unwrap();
            stdin.flush().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(if emulated() { 2000 } else { 400 }));
        }
        drop(stdin);
        let out = wait(child, std::time::Duration::from_secs(60));
        assert_eq!(summary(&events(&out))["by_tag"]["bracket"], 3, "{chroma} through standard input");
        assert_eq!(out.status.code(), Some(3), "{}", stderr(&out));
    }
}

/// A program that speaks as rpicam-vid does: frames on standard output, sensor times as text on the
/// metadata path.
#[test]
fn the_camera_program_is_run_as_a_child_and_its_sensor_times_are_used() {
    let folder = folder("rpicam");
    let program = folder.join("camera.sh");
    let body = "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in --metadata) M=$2;; --width) W=$2;; --height) H=$2;; esac; shift; done\n\
        exec 3>\"$M\"\nup() { awk '{printf \"%.0f\", $1 * 1000000000}' /proc/uptime; }\n\
        while :; do printf 'ExposureTime=1000\\nSensorTimestamp=%s\\n\\n' \"$(up)\" >&3; head -c $((W * H * 3 / 2)) /dev/urandom; sleep 0.05; done\n";
    script(&program, body);
    let source = format!("rpicam:?width=128&height=96&fps=20&program={}", program.display());
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--json", "--parts", "4", "--source", &source]));
    let all = events(&out);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(summary(&all)["parts"], 4);
    // The sensor's clock is the system's, so a frame's age is small but real.
    for part in of(&all, "part") {
        assert!(part["age"].as_u64().unwrap() < 900_000, "{part}");
    }
}

#[test]
fn a_missing_camera_program_is_refused_at_start() {
    if emulated() {
        eprintln!("skipped: qemu-user does not report a failed exec to the process that spawned it");
        return;
    }
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--source", "rpicam:?program=/nonexistent/rpicam-vid"]));
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("install rpicam-apps"), "{}", stderr(&out));
}

/// A file of edges was an output that the line waited for. Now it is a copy of what the log holds,
/// and told as on its way out.
#[test]
fn edges_go_into_a_file_and_the_event_log_is_kept() {
    let folder = folder("files");
    let (edges, log) = (folder.join("edges.jsonl"), folder.join("log.jsonl"));
    let text = format!(
        "[source]\nopen = \"conveyor?speed=1600\"\n[trigger]\nkind = \"barrier\"\n[outputs.any]\nbackend = \"events\"\npath = \"{}\"\n\
         mode = \"pulse\"\nwidth_ms = 20\non = [\"accept\", \"reject\"]\n[events]\npath = \"{}\"\n",
        edges.display(),
        log.display()
    );
    let file = settings("files-settings", &text);
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "3"]));
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let lines = |path: &std::path::Path| -> Vec<Value> {
        std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let edges = lines(&edges);
    let states: Vec<&str> = edges.iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "inactive", "active", "inactive", "active", "inactive"]);
    let log = lines(&log);
    assert!(log[0]["event"] == "start" && summary(&log)["parts"] == 3);
    assert_eq!(edges.iter().collect::<Vec<_>>(), of(&log, "edge"), "the same lines, schema and all");
    let checked = finish(tagpin(&["check", "--bundle", PARTS, "--settings", &file]));
    assert_eq!(checked.status.code(), Some(0), "{}", String::from_utf8_lossy(&checked.stdout));
    for told in [stderr(&out), String::from_utf8_lossy(&checked.stdout).into_owned()] {
        assert!(told.contains("output any has backend = \"events\"") && told.contains("[events]"), "{told}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
    let out = finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "3"]));
    assert_eq!(out.status.code(), Some(2), "a folder that is not there is told before anything moves");
    assert!(stderr(&out).contains("output \"any\": folder"), "{}", stderr(&out));
}

/// A pipe that nobody read on stopped every pin of the line, unseen: its writes were the outputs'
/// own.
#[test]
fn a_file_of_edges_that_blocks_or_is_full_costs_its_own_events_and_no_edge() {
    let fifo = folder("edges-blocked").join("edges");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (name, path) in [("edges-blocked", fifo.as_path()), ("edges-full", "/dev/full".as_ref())] {
        let text = format!(
            "[source]\nopen = \"conveyor?seed=7&fps=60\"\n[line]\nmode = \"gate\"\n[trigger]\nkind = \"period\"\nperiod_ms = 40\n\
             [decide]\nunknown = \"accept\"\n[outputs.any]\nmode = \"pulse\"\nwidth_ms = 8\ndelay_ms = 400\non = [\"accept\", \"reject\"]\n\
             [outputs.file]\nbackend = \"events\"\npath = \"{}\"\nmode = \"pulse\"\nwidth_ms = 8\ndelay_ms = 400\non = [\"accept\", \"reject\"]\n",
            path.display()
        );
        let file = settings(&format!("{name}-settings"), &text);
        let command = tagpin(&["run", "--json", "--bundle", PARTS, "--settings", &file, "--parts", "60"]);
        let reader = fifo.clone();
        let holds = (name == "edges-blocked").then(|| {
            std::thread::spawn(move || {
                // Opens when the first edge is written, and reads nothing: one page holds some 16
                // edges of 240.
                let pipe = std::fs::File::open(reader).unwrap();
                rustix::pipe::fcntl_setpipe_size(&pipe, 4096).unwrap();
                pipe
            })
        });
        let out = finish(command);
        drop(holds.map(|h| h.join().unwrap()));
        let all = events(&out);
        assert_eq!((out.status.code(), summary(&all)["outputs_safe"].as_bool()), (Some(0), Some(true)), "{}", stderr(&out));
        for line in ["any", "file"] {
            let pulses = of(&all, "edge").into_iter().filter(|e| e["line"] == line && e["state"] == "active").count();
            assert_eq!(pulses, 60, "{name}: {line}");
        }
        assert!(name == "edges-blocked" || stderr(&out).contains("the sink \"edges\" cannot write"), "{}", stderr(&out));
        assert_eq!(summary(&all)["faults"]["output"], Value::Null, "{}", summary(&all));
    }
}

#[test]
fn level_and_latched_lines_follow_verdicts() {
    let text = format!(
        "[source]\nopen = \"{}\"\n[trigger]\nkind = \"barrier\"\n[decide]\nreject = [\"gear_chipped\"]\n\
         [outputs.lamp]\nmode = \"level\"\non = [\"tag:gear_chipped\"]\n[outputs.alarm]\nmode = \"latched\"\non = [\"reject\"]\n",
        fast_conveyor(7)
    );
    let file = settings("modes", &text);
    // Seed 7 begins bolt, gear_chipped, washer, nut, gear_chipped, gear_chipped, gear.
    let all = events(&finish(tagpin(&["run", "--bundle", PARTS, "--settings", &file, "--parts", "7", "--json"])));
    let moves = |line: &str| -> Vec<(u64, String)> {
        let edges = of(&all, "edge").into_iter().filter(|e| e["line"] == line);
        edges.map(|e| (e["part"].as_u64().unwrap(), e["state"].as_str().unwrap().to_string())).collect()
    };
    let on = |p| (p, "active".to_string());
    let off = |p| (p, "inactive".to_string());
    assert_eq!(moves("lamp"), [on(2), off(3), on(5), off(7)]);
    assert_eq!(moves("alarm"), [on(2), off(0)], "latched until the run's end makes it safe");
}

#[test]
fn what_was_recorded_can_be_replayed_bit_for_bit() {
    let folder = folder("record");
    let path = folder.join("kept");
    let args = ["run", "--parts", "3", "--json", "--source", "conveyor?speed=1600", "--record", path.to_str().unwrap()];
    assert_eq!(finish(tagpin(&args)).status.code(), Some(0));
    let bytes = std::fs::read(PARTS).unwrap();
    let bundle = tagpin::bundle::Bundle::read(&bytes).unwrap();
    let mut engine = tagpin::engine::Engine::from_bundle(&bundle).unwrap();
    for frame in ["00000000", "00000001", "00000002"] {
        let read = |ending: &str| std::fs::read(path.join(format!("{frame}.{ending}"))).unwrap();
        let rgb = read("rgb");
        let mut tensor = vec![0; rgb.len()];
        tagpin::preprocess::quantise(&rgb, bundle.contract.input.tables.int8, &mut tensor);
        let mut logits = vec![0; 8];
        engine.infer(&tensor, &mut logits).unwrap();
        let kept: Vec<i32> = read("logits").as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
        assert_eq!(logits, kept);
    }
}
