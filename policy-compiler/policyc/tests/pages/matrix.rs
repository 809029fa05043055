//! The page of `policyc matrix`.

use std::fs;
use std::path::Path;

use crate::browser::Browser;
use crate::crowd::{crowd, policyc};

#[test]
fn the_page_of_the_shop_tells_both_halves_of_a_cell() {
    let mut page = Browser::open(&policyc("matrix -f examples/shop -o html", ""));
    page.prefer("light");
    page.photograph("matrix-light");

    page.click("td[aria-label^='api ×3 to cart']");
    let reason = page.text("#reason");
    for part in [
        "shop/api ×3 → shop/cart",
        "nothing over IPv4 and IPv6",
        "8080/TCP over IPv4 and IPv6: denied",
        "Egress of the source: isolated by 2 policies, a rule allows it",
        "shop/allow-dns-and-shop egress[1]: every pod of shop, every port examples/shop/base.yaml:29",
        "Ingress of the destination: isolated by 2 policies, no rule allows it",
        "shop/cart-from-web ingress[0]: means pods app=web in shop: has app=api, wants app=web examples/shop/cart.yaml:34",
    ] {
        assert!(reason.contains(part), "{part:?} in {reason:?}");
    }

    shown_in_the_readme(&mut page);

    // The same with the keyboard alone: the next cell to the right, and Enter.
    page.press("ArrowRight");
    assert!(!page.text("#reason h2").contains("db"), "moving alone chooses nothing");
    page.press("Enter");
    assert_eq!(page.text("#reason h2"), "shop/api ×3 → shop/db");
    assert!(page.text("#reason").contains("5432/TCP over IPv4 and IPv6: allowed"));
    assert_eq!(page.value("getComputedStyle(document.activeElement).outlineStyle"), "solid");
    assert_eq!(page.value("document.querySelectorAll('td[tabindex=\"0\"]').length"), 1);

    page.prefer("dark");
    let ground = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(page.value(ground), "rgb(13, 17, 23)");
    page.photograph("matrix-dark");
    let cells = "document.querySelectorAll('tbody td').length";
    assert_eq!(page.value(cells), 8 * 8);
    page.click("#close");
    assert_eq!(page.value(cells), 5 * 5);
    page.click("#open");
    assert_eq!(page.value(cells), 8 * 8);
    page.click("#close");
    page.press("/");
    page.enter("cart");
    assert_eq!(page.value("document.querySelectorAll('tbody tr').length"), 1);
    assert_eq!(page.complaints(), Vec::<String>::new());
}

/// The README shows two photographs of the page as it is now, light and dark. No two versions of a browser
/// draw the same bytes, so it is the page's words that are compared; `BLESS=1` takes all anew.
fn shown_in_the_readme(page: &mut Browser) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let words = page.value("document.body.innerText");
    let words = format!("{}\n", words.as_str().unwrap_or_default().trim());
    let kept = docs.join("shop-matrix.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&kept, &words).expect("the words can be written");
        for scheme in ["dark", "light"] {
            page.prefer(scheme);
            let photograph = page.photograph(&format!("readme-{scheme}"));
            fs::copy(photograph, docs.join(format!("shop-matrix-{scheme}.png")))
                .expect("the photograph can be kept");
        }
    }
    assert_eq!(words, fs::read_to_string(&kept).unwrap_or_default(), "{}", kept.display());
}

#[test]
fn three_hundred_workloads_are_folded_by_namespace() {
    let html = policyc("matrix -f - -o html", &crowd(20, 15));
    let mut page = Browser::open(&html);
    assert_eq!(page.value("document.querySelectorAll('tbody tr').length"), 21, "and the world");
    page.click("tbody button[data-group=team-07]");
    page.click("thead button[data-group=team-07]");
    page.photograph("matrix-300");
    page.click("td[aria-label^='app-01 ×3 to app-00 ×3:']");
    let reason = page.text("#reason");
    for part in ["team-07/app-01 ×3 → team-07/app-00 ×3", "team-07/app-00 ingress[0]", "8080/TCP"]
    {
        assert!(reason.contains(part), "{part:?} in {reason:?}");
    }
    assert_eq!(page.complaints(), Vec::<String>::new());
}

#[test]
fn names_are_never_markup() {
    let html = policyc("matrix -f examples/shop -o html", "");
    let hostile = html.replace("\"cart\"", "\"\\u003cimg src=x onerror=alert(1)\\u003e\"");
    assert_ne!(html, hostile);
    let mut page = Browser::open(&hostile);
    page.click("td[aria-label^='api ×3 to <img']");
    assert!(page.text("#reason").contains("<img src=x onerror=alert(1)>"));
    assert_eq!(page.value("document.images.length"), 0);
    assert_eq!(page.complaints(), Vec::<String>::new());
}
