//! The page of `policyc graph`.

use crate::browser::Browser;
use crate::crowd::{crowd, policyc};

#[test]
fn the_page_of_the_shop_tells_the_rules_behind_an_arrow() {
    let mut page = Browser::open(&policyc("graph -f examples/shop -o html", ""));
    page.prefer("light");
    assert_eq!(page.text("nav button[aria-current=true]"), "Everything");
    assert_eq!(page.value("document.querySelectorAll('svg .edge').length"), 7);
    page.photograph("graph-light");

    page.click("svg .edge[aria-label='shop/web ×2 → shop/cart: 8080/TCP'] text");
    let reason = page.text("#reason");
    for part in [
        "shop/web ×2 → shop/cart: 8080/TCP",
        "Egress of the source",
        "shop/allow-dns-and-shop egress[1]: every pod of shop examples/shop/base.yaml:29",
        "Ingress of the destination",
        "shop/cart-from-web ingress[0]: pods app=web in shop examples/shop/cart.yaml:34",
    ] {
        assert!(reason.contains(part), "{part:?} in {reason:?}");
    }

    // The same with the keyboard alone: the next arrow, and Enter.
    page.press("Tab");
    let focus = page.value("document.activeElement.getAttribute('aria-label')");
    assert_ne!(focus, "shop/web ×2 → shop/cart: 8080/TCP");
    let outline = page.value(
        "getComputedStyle(document.activeElement.querySelector('.thin') ?? \
         document.activeElement.querySelector('rect')).strokeWidth",
    );
    assert_eq!(outline, "3.4px", "the focus can be seen");
    page.press("Enter");
    let focus = focus.as_str().expect("it has a name").to_owned();
    assert_eq!(page.text("#reason h2"), focus);

    page.press("/");
    page.enter("metrics prom");
    assert_eq!(page.value("document.querySelectorAll('#list tbody tr:not([hidden])').length"), 0);
    page.value("document.getElementById('search').value = ''");
    page.enter("9090");
    assert_eq!(page.value("document.querySelectorAll('#list tbody tr:not([hidden])').length"), 1);
    assert_eq!(page.value("document.querySelectorAll('svg .edge:not(.faint)').length"), 1);

    page.prefer("dark");
    let ground = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(page.value(ground), "rgb(13, 17, 23)");
    page.photograph("graph-dark");
    page.click("#theme");
    assert_eq!(page.value(ground), "rgb(255, 255, 255)");
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn three_hundred_workloads_open_a_namespace_at_a_time() {
    let html = policyc("graph -f - -o html", &crowd(20, 15));
    let mut page = Browser::open(&html);
    assert_eq!(page.text("nav button[aria-current=true]"), "Namespaces");
    assert_eq!(page.value("document.querySelectorAll('svg .node').length"), 20);
    page.photograph("graph-300");
    page.click("svg .node[aria-label^='team-07']");
    assert_eq!(page.text("nav button[aria-current=true]"), "team-07");
    page.photograph("graph-300-namespace");
    page.click("#list tbody button");
    assert!(page.text("#reason").contains("team-07/app-"));
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn names_are_never_markup() {
    // Labels and names that the API server would refuse are refused here too; what gets through is the
    // value of a field that is free text.
    let html = policyc("graph -f examples/shop -o html", "");
    let hostile = html.replace("pods app=web in shop", "\\u003cimg src=x onerror=alert(1)\\u003e");
    assert_ne!(html, hostile);
    let mut page = Browser::open(&hostile);
    page.click("svg .edge[aria-label='shop/web ×2 → shop/cart: 8080/TCP'] text");
    assert!(page.text("#reason").contains("<img src=x onerror=alert(1)>"));
    assert_eq!(page.value("document.images.length"), 0);
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn a_script_that_is_not_the_pages_own_does_not_run() {
    let html = policyc("graph -f examples/shop -o html", "");
    let injected = html.replace("</body>", "<script>window.stolen = 1</script></body>");
    let mut page = Browser::open(&injected);
    assert_eq!(page.value("typeof window.stolen"), "undefined");
    assert_eq!(page.complaints().len(), 1, "the browser says that it was refused");
}

#[test]
fn pictures_are_well_formed_xml() {
    for line in ["graph -f examples/shop -o svg", "graph -f examples/dual-stack -o svg"] {
        let svg = policyc(line, "");
        let mut page = Browser::open("<!doctype html><title>x</title>");
        let quoted = serde_json::Value::from(svg);
        let root = page.value(&format!(
            "new DOMParser().parseFromString({quoted}, 'image/svg+xml').documentElement.nodeName"
        ));
        assert_eq!(root, "svg", "{line}");
    }
}
