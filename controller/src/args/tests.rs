use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn options_become_settings() {
    let line = "policyd run --source d --node n1 --ipvs on --hairpin police --deny reject \
                --keep-established --log-denied --antispoof --verify-interval 5 --set-bridge-sysctls \
                --iptables-backend legacy";
    let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let Command::Run(run) = cli.command else { panic!("run") };
    let expected = Settings {
        node: NodeName::new("n1").unwrap(),
        ipvs: Ipvs::On,
        hairpin: Hairpin::Police,
        deny: DenyAction::Reject,
        keep_established: true,
        log_denied: true,
        antispoof: true,
        unknown: Unknown::Allowed,
        verify_interval: Duration::from_secs(5),
        set_bridge_sysctls: true,
    };
    assert_eq!(run.settings(), Ok(expected));
    assert_eq!(run.backend(), BackendChoice::Forced(Backend::Legacy));
}

fn run(line: &str) -> RunArgs {
    let words = format!("policyd run {line}");
    let Command::Run(run) = Cli::try_parse_from(words.split_whitespace()).unwrap().command else {
        panic!("run")
    };
    run
}

#[test]
fn without_a_directory_the_api_server_is_the_source() {
    let line = "--node n1 --kubeconfig k --context c --streaming-lists --scoped-watch --events false \
                --listen [::]:9476";
    let run = run(line);
    assert_eq!(run.source, None);
    let expected = ApiOptions {
        kubeconfig: Some("k".into()),
        context: Some("c".to_owned()),
        streaming_lists: true,
        nodes: true,
        own_node: None,
    };
    assert_eq!(run.api(), expected);
    assert!(!run.events && run.scoped_watch);
    assert_eq!(run.listen, Listen::At("[::]:9476".parse().unwrap()));
}

#[test]
fn by_default_probes_are_answered_on_loopback_and_events_told() {
    let run = run("--node n1");
    assert_eq!(run.listen, Listen::At("127.0.0.1:9476".parse().unwrap()));
    assert!(run.events && !run.scoped_watch);
}

#[test]
fn unknown_addresses_are_denied_in_networks_given_or_in_those_of_the_node_object() {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    for (line, unknown, nodes) in [
        ("", Unknown::Allowed, false),
        ("--isolate-unknown", Unknown::DeniedInPodCidrs, true),
        (
            "--isolate-unknown --pod-cidr 10.244.1.9/24 --pod-cidr fd00::/64",
            Unknown::DeniedIn(nets(&["10.244.1.0/24", "fd00::/64"])),
            false,
        ),
    ] {
        let run = run(&format!("--node n1 {line}"));
        assert_eq!(run.settings().map(|settings| settings.unknown), Ok(unknown), "{line}");
        assert_eq!(run.api().nodes, nodes, "{line}");
    }
    let all = |line: &str| run(line).api().nodes && run(line).api().own_node.is_none();
    assert!(!all("--node n1 --isolate-unknown"), "of the node's own");
    assert!(
        all("--node n1 --isolate-unknown --scoped-watch"),
        "and of all where pods are not seen"
    );
    let idle = run("--node n1 --pod-cidr 10.244.1.0/24").settings();
    assert_eq!(idle, Err(ArgsError::IdlePodNetworks));
    let taint = run("--node n1 --source d --remove-taint k").settings();
    assert_eq!(taint, Err(ArgsError::NoApiServer("remove-taint")));
}

#[test]
fn what_contradicts_is_refused() {
    for line in [
        "--source d --kubeconfig k",
        "--isolate-unknown --pod-cidr 10.244.1.0",
        "--isolate-unknown --pod-cidr 0.0.0.0/0",
        "--once --remove-taint k",
        "--context c",
        "--listen 9476",
        "--listen",
        "--events perhaps",
        "--unknown",
    ] {
        let words = format!("policyd run --node n1 {line}");
        assert!(Cli::try_parse_from(words.split_whitespace()).is_err(), "{line}");
    }
    let error = run("--node n1 --source d --streaming-lists").settings();
    assert_eq!(error, Err(ArgsError::NoApiServer("streaming-lists")));
    let error = run("--node n1 --source d --scoped-watch").settings();
    assert_eq!(error, Err(ArgsError::NoApiServer("scoped-watch")));
    assert_eq!(run("--node n1 --listen off").listen, Listen::Off);
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let envs = |command: &clap::Command| -> Vec<String> {
        let of = |command: &clap::Command| {
            let args = command.get_arguments().filter_map(Arg::get_env).map(OsStr::to_owned);
            args.filter_map(|name| name.into_string().ok()).collect::<Vec<_>>()
        };
        command.get_subcommands().flat_map(of).chain(of(command)).collect()
    };
    let all = envs(&Cli::command());
    let empty = ["NODE_NAME", "POLICYD_DENY", "POLICYD_LOG_FORMAT"];
    let command = without_empty_variables(Cli::command(), &|name| {
        empty.iter().any(|one| name == *one).then(OsString::new).or(Some("x".into()))
    });
    let mut expected = all.clone();
    expected.retain(|name| !empty.contains(&name.as_str()));
    assert_eq!(envs(&command), expected);
    assert_eq!(all.len(), expected.len() + empty.len());
}

#[test]
fn every_option_of_run_but_once_has_a_variable() {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    let without = run.get_arguments().filter(|arg| arg.get_env().is_none());
    let names: Vec<&str> = without.filter_map(Arg::get_long).collect();
    assert_eq!(names, ["once"]);
}

#[test]
fn without_a_node_it_is_said_where_its_name_comes_from() {
    let cli = Cli::try_parse_from(["policyd", "run", "--source", "d"]).unwrap();
    let Command::Run(run) = cli.command else { panic!("run") };
    let run = RunArgs { node: None, ..run };
    let error = run.settings().unwrap_err().to_string();
    assert!(error.contains("fieldPath: spec.nodeName}}"), "{error}");
}

#[test]
fn a_node_name_that_kubernetes_refuses_is_refused() {
    let line = ["policyd", "run", "--source", "d", "--node", "Not A Node"];
    let error = Cli::try_parse_from(line).unwrap_err();
    assert!(error.to_string().contains("lower case letters"), "{error}");
}
