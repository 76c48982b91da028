/// The style sheets of pages and charts.
enum PageStyle {
    /// The colours of pages and charts, in light and dark mode.
    ///
    /// Lines use the palette of Okabe and Ito, which colour-blind readers can tell apart, darkened in light mode and
    /// lightened in dark mode. The colours of layer kinds differ clearly in lightness.
    static let colours = """
        :root {
          color-scheme: light dark;
          --page: #ffffff; --ink: #1b1d20; --quiet: #59616a; --rule: #dadee3;
          --good: #146c2e; --bad: #b3261e;
          --s0: #0067a5; --s1: #c04f00; --s2: #007a5a; --s3: #a03a78;
          --gqa: #6450a8; --gqa-ink: #ffffff; --mha: #e3ae2d; --mha-ink: #1b1d20; --rwkv7: #dbe3ed; --rwkv7-ink: #1b1d20;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --page: #16181b; --ink: #e6e8ea; --quiet: #a3abb4; --rule: #343a41;
            --good: #7bd494; --bad: #ff8f85;
            --s0: #6bb8f2; --s1: #ff9c55; --s2: #4fd0a8; --s3: #ea94c8;
            --gqa: #c9b8ff; --gqa-ink: #16181b; --mha: #b08118; --mha-ink: #16181b; --rwkv7: #323b47; --rwkv7-ink: #e6e8ea;
          }
        }
        """

    /// The layout of pages.
    static let page = """
        body {
          font: 1rem/1.55 system-ui, sans-serif; font-variant-numeric: tabular-nums;
          max-width: 46rem; margin: 0 auto; padding: clamp(1.25rem, 5vw, 3.5rem) clamp(1rem, 4vw, 2rem) 5rem;
          background: var(--page); color: var(--ink);
        }
        h1 { font-size: 1.6rem; line-height: 1.25; font-weight: 400; margin: 0 0 1.5rem; }
        h1 strong { font-weight: 650; }
        h1.good, h1.bad { border-left: .3rem solid; padding-left: .9rem; }
        h1.good, h1.good strong { border-color: var(--good); }
        h1.bad, h1.bad strong { border-color: var(--bad); }
        .good strong { color: var(--good); }
        .bad strong, tr.bad td { color: var(--bad); }
        tr.bad td { font-weight: 600; }
        h2 { font-size: 1.1rem; line-height: 1.3; font-weight: 650; margin: 3rem 0 .75rem; }
        p, li { max-width: 38rem; overflow-wrap: anywhere; }
        p, ul { margin: 0 0 .75rem; }
        p::first-letter { text-transform: uppercase; }
        dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 1.5rem 0; }
        dt { color: var(--quiet); }
        dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
        .scroll { overflow-x: auto; margin: .75rem 0 1.5rem; }
        table { border-collapse: collapse; font-size: .9375rem; }
        th, td { padding: .35rem 0 .35rem 2rem; text-align: right; white-space: nowrap; vertical-align: top; }
        th.text, td.text { text-align: left; }
        th:first-child, td:first-child { padding-left: 0; }
        th { font-weight: 400; color: var(--quiet); border-bottom: 1px solid var(--quiet); }
        td { border-bottom: 1px solid var(--rule); }
        @media (max-width: 34rem) {
          dl { grid-template-columns: 1fr; gap: 0; }
          dd { margin-bottom: .6rem; }
          th, td { padding-left: 1rem; }
          th.text, td.text { white-space: normal; }
          td.text:first-child { min-width: 7rem; }
        }
        """

    /// The layout of charts.
    static let chart = """
        .chart { display: block; background: var(--page); width: 100%; min-width: 38rem; font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
        .chart text { fill: var(--ink); }
        .chart .title { font-size: 14px; font-weight: 650; }
        .chart .quiet { fill: var(--quiet); }
        .chart .page { fill: var(--page); }
        .chart .rule { stroke: var(--rule); }
        .chart .axis { stroke: var(--quiet); }
        .chart .mark { stroke: var(--ink); }
        .chart .limit { stroke: var(--ink); stroke-dasharray: 6 4; }
        .chart .s0 { color: var(--s0); }
        .chart .s1 { color: var(--s1); }
        .chart .s2 { color: var(--s2); }
        .chart .s3 { color: var(--s3); }
        .chart polyline { stroke-width: 1.75; stroke-linejoin: round; }
        .chart .s1 polyline { stroke-dasharray: 7 3; }
        .chart .s2 polyline { stroke-dasharray: 2 3; }
        .chart .s3 polyline { stroke-dasharray: 9 3 2 3; }
        .chart .gqa rect { fill: var(--gqa); }
        .chart .gqa text { fill: var(--gqa-ink); }
        .chart .mha rect { fill: var(--mha); }
        .chart .mha text { fill: var(--mha-ink); }
        .chart .rwkv7 rect, .chart .rwkv6 rect, .chart .rwkv5 rect { fill: var(--rwkv7); }
        .chart .rwkv7 text, .chart .rwkv6 text, .chart .rwkv5 text { fill: var(--rwkv7-ink); }
        """
}
